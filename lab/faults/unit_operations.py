"""Operations on the units of a lab, each of which is an event of the lab and in its audit log."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lab.clock import lab_time_ns
from lab.errors import InputError
from lab.faults.journal import Journal
from lab.roles import MODEL, Unit, layout_of, with_environment
from lab.roles.model import new_replica_name, replica
from lab.runs.events import Event, append_event, of_unit
from lab.runtime.lock import exclusive
from lab.runtime.state import STATE_FILE, LabState, Running

if TYPE_CHECKING:
    from lab.runtime import Runtime
    from lab.runtime.context import LabContext

_AFTER_DRAINING_S = 2.0
_PARTITION = "partition"
# Time in which a unit is as before: once it has been started and is ready; once packets reach it again, which TCP sends
# after pauses of up to 4 s.
_STARTED_S, _CONNECTED_S = 5.0, 10.0
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class UnitOperations:
    """Operations on the units of one lab: kill, pause, cut off, start, scale, replace.

    Every method raises :class:`lab.errors.InputError` for a unit that the lab does not have.

    Attributes:
        context: the lab.
        recorded: whether each operation is an event of the lab; not so inside a fault that is an event itself.
        audited: whether each operation is in the audit log; not so inside a fault, which is.
    """

    context: LabContext
    recorded: bool = True
    audited: bool = True

    def kill(self, unit: str) -> None:
        """Ends one unit with SIGKILL; does nothing to one that does not run."""
        state = self.context.state()
        _unit(state, unit)
        if unit in state.running:
            with self._operation("kill", unit, past="killed", undone_by="start", recovers_s=_STARTED_S):
                self.context.runtime(state).kill(state.running[unit])

    def start(self, unit: str) -> None:
        """Starts one unit that does not run, at the addresses that it had."""
        with exclusive(self.context.folder):
            state = self.context.state()
            wanted = _unit(state, unit)
            if self._state_of(state, unit) == "exited":
                with self._operation("start", unit, past="started"):
                    self._start(state, self.context.runtime(state), [wanted])

    def pause(self, unit: str) -> None:
        """Freezes one unit: its connections stay open and it does not answer, until :meth:`resume`.

        Raises:
            InputError: it does not run.
        """
        state = self.context.state()
        running = self._alive(state, unit)
        with self._operation("pause", unit, past="paused", undone_by="resume", recovers_s=_CONNECTED_S):
            self.context.runtime(state).pause(running)

    def resume(self, unit: str) -> None:
        """Resumes a frozen unit; does nothing to one that is not frozen.

        Raises:
            InputError: it does not run.
        """
        state = self.context.state()
        running = self._alive(state, unit)
        if self._state_of(state, unit) == "paused":
            with self._operation("resume", unit, past="resumed"):
                self.context.runtime(state).resume(running)

    def partition(self, unit: str) -> None:
        """Cuts off one unit, with its pod, from the network: no traffic in or out, until :meth:`rejoin`.

        Raises:
            InputError: not on this runtime.
        """
        state = self.context.state()
        cut = _unit(state, unit)
        with self._operation(_PARTITION, unit, past="cut off", undone_by="rejoin", recovers_s=_CONNECTED_S):
            self.context.runtime(state).partition(cut)

    def rejoin(self, unit: str) -> None:
        """Reconnects one unit that was cut off.

        Raises:
            InputError: not on this runtime.
        """
        state = self.context.state()
        cut = _unit(state, unit)
        with self._operation("rejoin", unit, past="connected again"):
            self.context.runtime(state).rejoin(cut)

    def lose_node(self, node: str, units: Sequence[str]) -> None:
        """Ends these units, which share a node, at the same time; the runtime also closes its own node."""
        state = self.context.state()
        runtime = self.context.runtime(state)
        with ExitStack() as stack:
            for unit in units:
                detail = f"with {node}"
                stack.enter_context(
                    self._operation("kill", unit, detail, past="killed", undone_by="start", recovers_s=_STARTED_S)
                )
            if runtime.nodes():
                runtime.lose_node(node)
                return
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(runtime.kill, (state.running[unit] for unit in units if unit in state.running)))

    def restore_node(self, node: str, units: Sequence[str]) -> None:
        """Opens a lost node again; starts these units, unless the runtime has started them elsewhere."""
        runtime = self.context.runtime()
        if not runtime.nodes():
            for unit in units:
                self.start(unit)
            return
        with ExitStack() as stack:
            for unit in units:
                stack.enter_context(self._operation("start", unit, past="started"))
            runtime.restore_node(node)

    def scale(self, cluster: str, replicas: int) -> list[str]:
        """Starts or drains replicas of a model cluster until it has this many; returns the names of all.

        The route table does not change: the control plane routes to the replicas that register with it.

        Raises:
            InputError: no such cluster, or no replica would be left.
        """
        if replicas < 1:
            raise InputError(f"scale {cluster}: {replicas} replicas: use 1 or more, or kill the replicas")
        with exclusive(self.context.folder):
            state = self.context.state()
            _refuse_with_links(state, "scale")
            present = _replicas(state, cluster)
            runtime = self.context.runtime(state)
            site = runtime.site(state.plan)
            names = [unit.name for unit in state.plan.units]
            new = []
            for _ in range(replicas - len(present)):
                name = new_replica_name(cluster, names)
                names.append(name)
                port = site.port(name, "grpc", group=cluster)
                layout = layout_of(state.spec, site)
                new.append(with_environment(layout, replica(layout, cluster, name, port)))
            with self._operation("scale", cluster, f"to {replicas} replicas", past="scaled"):
                self._exchange(state, runtime, present[replicas:], new)
            return [unit.name for unit in [*present[:replicas], *new]]

    def replace(self, unit: str, cluster: str) -> str:
        """Kills a model replica and starts one of another cluster, with other versions, at the same address.

        Returns:
            The new replica's name.

        Raises:
            InputError: the unit is not a model replica, or there is no such cluster.
        """
        with exclusive(self.context.folder):
            state = self.context.state()
            old = _unit(state, unit)
            _refuse_with_links(state, "replace")
            if not old.cluster:
                raise InputError(f"replace {unit}: is a {old.role}, not a model replica")
            _replicas(state, cluster)
            runtime = self.context.runtime(state)
            name = new_replica_name(cluster, [each.name for each in state.plan.units])
            with self._operation("replace", unit, f"by {name}", past="replaced"):
                if unit in state.running:
                    runtime.kill(state.running[unit])
                site = runtime.site(state.plan)
                layout = layout_of(state.spec, site)
                new = with_environment(layout, replica(layout, cluster, name, site.take_over(old, name)))
                self._exchange(state, runtime, [old], [new])
            return name

    def last_log_lines(self, names: Collection[str], lines: int = 5) -> dict[str, list[str]]:
        """The last lines that each of these units has logged, by unit; leaves out names of no unit."""
        state = self.context.state()
        wanted = [unit for unit in state.plan.units if unit.name in names]
        runtime = self.context.runtime(state)
        runtime.fetch_logs(wanted)
        return {unit.name: runtime.last_lines(unit.name, lines) for unit in wanted}

    @contextmanager
    def _operation(
        self, kind: str, target: str, detail: str = "", *, past: str, undone_by: str = "", recovers_s: float = 0.0
    ) -> Iterator[None]:
        """Records the body as an event if it succeeds, and in the audit log in any case."""
        with Journal(self.context.folder).doing(f"unit {kind}", target, detail) if self.audited else nullcontext():
            state = self.context.state()
            unit = next((each for each in state.plan.units if each.name == target), None)
            from_ns = lab_time_ns()
            yield
            if self.recorded:
                event = Event(
                    kind=kind,
                    target=target,
                    detail=detail,
                    past=past,
                    undone_by=undone_by,
                    recovers_s=recovers_s,
                    from_ns=from_ns,
                    until_ns=lab_time_ns(),
                )
                if unit is not None:
                    event = of_unit(event, unit, state.spec)
                if kind == _PARTITION:  # it cuts off the whole pod
                    event = replace(event, role="")
                append_event(self.context.folder, event)

    def _exchange(self, state: LabState, runtime: Runtime, old: Sequence[Unit], new: Sequence[Unit]) -> None:
        """Drains and removes the old units, and starts the new ones."""
        gone = [state.running[unit.name] for unit in old if unit.name in state.running]
        # A draining replica closes its connections a moment after its last request.
        runtime.stop(gone, within_s=state.spec.stub.drain_s + _AFTER_DRAINING_S)
        for running in gone:
            runtime.remove(running)
        kept = [unit for unit in state.plan.units if unit not in old]
        # After the other models, so that the plan stays in starting order.
        last = max((number for number, unit in enumerate(kept) if unit.role == MODEL), default=0)
        layout = replace(state.plan, units=(*kept[: last + 1], *new, *kept[last + 1 :]))
        state = state.with_plan(layout)
        runtime.prepare(layout, lambda _: None)
        state.save(self.context.folder / STATE_FILE)
        self._start(state, runtime, new)

    def _start(self, state: LabState, runtime: Runtime, wanted: Sequence[Unit]) -> None:
        for name, running in runtime.start(wanted):
            state = state.with_running(name, running)
            state.save(self.context.folder / STATE_FILE)

    def _alive(self, state: LabState, unit: str) -> Running:
        _unit(state, unit)
        if self._state_of(state, unit) == "exited":
            raise InputError(f"{unit} does not run: start it first")
        return state.running[unit]

    def _state_of(self, state: LabState, unit: str) -> str:
        running = {name: each for name, each in state.running.items() if name == unit}
        return self.context.runtime(state).states(running).get(unit, "exited")


def _unit(state: LabState, name: str) -> Unit:
    try:
        return state.plan.unit(name)
    except KeyError:
        names = ", ".join(each.name for each in state.plan.units)
        raise InputError(f"{name!r} is not a unit of this lab; there are {names}") from None


def _refuse_with_links(state: LabState, operation: str) -> None:
    if state.spec.links:
        raise InputError(
            f"{operation}: a lab with links keeps its replicas, as each has links of its own; change the route table's "
            "clusters, and bring the lab up again"
        )


def _replicas(state: LabState, cluster: str) -> list[Unit]:
    found = [unit for unit in state.plan.units if unit.cluster == cluster]
    if not found:
        clusters = dict.fromkeys(unit.cluster for unit in state.plan.units if unit.cluster)
        raise InputError(f"{cluster!r} is not a cluster of this lab; there are {', '.join(clusters)}")
    return found
