"""Hands on the units of a lab: kill, pause, cut off, start, scale, replace. What they do, they write down."""

from __future__ import annotations

import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lab.errors import InputError
from lab.faults.journal import Journal
from lab.plan import units
from lab.runs.events import Act, write_act
from lab.runtime import make_runtime
from lab.runtime.lock import exclusive
from lab.runtime.state import STATE_FILE, LabState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lab.plan.units import Unit
    from lab.runtime import Runtime
    from lab.runtime.state import Running


_AFTER_DRAINING_S = 2.0


@dataclass(frozen=True, slots=True)
class Hands:
    """Hands on the units of one lab.

    Every method raises :class:`lab.errors.InputError` for a unit that the lab does not have.

    Attributes:
        folder: the lab's own.
        writes_down: whether each act is written down; not where it is part of another, which is.
        audited: whether each act is in the audit log; not where it is part of a fault, which is.
    """

    folder: Path
    writes_down: bool = True
    audited: bool = True

    def kill(self, unit: str) -> None:
        """Ends one unit at once, without a chance to say goodbye; does nothing to one that does not run."""
        state = LabState.of(self.folder)
        _unit(state, unit)
        if unit in state.running:
            with self._act("kill", unit):
                self._runtime(state).kill(state.running[unit])

    def start(self, unit: str) -> None:
        """Starts one unit that does not run, at the addresses that it had."""
        with exclusive(self.folder):
            state = LabState.of(self.folder)
            wanted = _unit(state, unit)
            if self._how(state, unit) == "exited":
                with self._act("start", unit):
                    self._start(state, self._runtime(state), [wanted])

    def pause(self, unit: str) -> None:
        """Freezes one unit: it stays connected and says nothing, until :meth:`resume`.

        Raises:
            InputError: it does not run.
        """
        state = LabState.of(self.folder)
        running = self._alive(state, unit)
        with self._act("pause", unit):
            self._runtime(state).pause(running)

    def resume(self, unit: str) -> None:
        """Lets a frozen unit go on; does nothing to one that does.

        Raises:
            InputError: it does not run.
        """
        state = LabState.of(self.folder)
        running = self._alive(state, unit)
        if self._how(state, unit) == "paused":
            with self._act("resume", unit):
                self._runtime(state).resume(running)

    def partition(self, unit: str) -> None:
        """Cuts one unit off, with the pod that it stands in: nothing gets in or out, until :meth:`rejoin`.

        Raises:
            InputError: not on this runtime.
        """
        state = LabState.of(self.folder)
        cut = _unit(state, unit)
        with self._act("partition", unit):
            self._runtime(state).partition(cut)

    def rejoin(self, unit: str) -> None:
        """Connects one unit again that was cut off.

        Raises:
            InputError: not on this runtime.
        """
        state = LabState.of(self.folder)
        cut = _unit(state, unit)
        with self._act("rejoin", unit):
            self._runtime(state).rejoin(cut)

    def scale(self, cluster: str, replicas: int) -> list[str]:
        """Gives a model cluster more replicas, or fewer, which may finish what they have; returns all their names.

        The route table is not asked: what the control plane finds registered is what it routes to.

        Raises:
            InputError: no such cluster, or no replica would be left.
        """
        if replicas < 1:
            raise InputError(f"scale {cluster}: {replicas} replicas will not do; write 1 or more, or kill those there")
        with exclusive(self.folder):
            state = LabState.of(self.folder)
            present = _replicas(state, cluster)
            runtime = self._runtime(state)
            site = runtime.site(state.plan)
            names = [unit.name for unit in state.plan.units]
            new = []
            for _ in range(replicas - len(present)):
                name = units.new_replica_name(cluster, names)
                names.append(name)
                new.append(units.replica(state.spec, cluster, name, site.port(name, "grpc"), site))
            with self._act("scale", cluster, f"to {replicas} replicas"):
                self._exchange(state, runtime, present[replicas:], new)
            return [unit.name for unit in [*present[:replicas], *new]]

    def replace(self, unit: str, cluster: str) -> str:
        """Kills a model replica and starts one of another cluster, which holds other versions, at its very address.

        Returns:
            The new replica's name.

        Raises:
            InputError: the unit is no model replica, or there is no such cluster.
        """
        with exclusive(self.folder):
            state = LabState.of(self.folder)
            old = _unit(state, unit)
            if not old.cluster:
                raise InputError(f"replace {unit}: is a {old.role}, not a model replica")
            _replicas(state, cluster)
            runtime = self._runtime(state)
            name = units.new_replica_name(cluster, [each.name for each in state.plan.units])
            with self._act("replace", unit, f"by {name}"):
                if unit in state.running:
                    runtime.kill(state.running[unit])
                site = runtime.site(state.plan)
                new = units.replica(state.spec, cluster, name, site.take_over(old, name), site)
                self._exchange(state, runtime, [old], [new])
            return name

    @contextmanager
    def _act(self, kind: str, target: str, detail: str = "") -> Iterator[None]:
        """Writes down what is done within, unless it fails; the audit log has it in any case."""
        with Journal(self.folder).doing(f"unit {kind}", target, detail) if self.audited else nullcontext():
            from_ns = time.time_ns()
            yield
            if self.writes_down:
                act = Act(kind=kind, target=target, detail=detail, from_ns=from_ns, until_ns=time.time_ns())
                write_act(self.folder, act)

    def _exchange(self, state: LabState, runtime: Runtime, old: Sequence[Unit], new: Sequence[Unit]) -> None:
        """Ends and forgets some units, and starts others."""
        gone = [state.running[unit.name] for unit in old if unit.name in state.running]
        # A replica that drains keeps its connections a moment longer.
        runtime.stop(gone, within_s=state.spec.stub.drain_s + _AFTER_DRAINING_S)
        for running in gone:
            runtime.remove(running)
        kept = [unit for unit in state.plan.units if unit not in old]
        # Beside its like, so that the list stays in the order of starting.
        last = max((number for number, unit in enumerate(kept) if unit.role == "model"), default=0)
        layout = replace(state.plan, units=(*kept[: last + 1], *new, *kept[last + 1 :]))
        state = state.with_plan(layout)
        runtime.prepare(layout, lambda _: None)
        state.save(self.folder / STATE_FILE)
        self._start(state, runtime, new)

    def _start(self, state: LabState, runtime: Runtime, wanted: Sequence[Unit]) -> None:
        for name, running in runtime.start(wanted):
            state = state.with_running(name, running)
            state.save(self.folder / STATE_FILE)

    def _alive(self, state: LabState, unit: str) -> Running:
        _unit(state, unit)
        if self._how(state, unit) == "exited":
            raise InputError(f"{unit} does not run: start it first")
        return state.running[unit]

    def _how(self, state: LabState, unit: str) -> str:
        running = {name: each for name, each in state.running.items() if name == unit}
        return self._runtime(state).states(running).get(unit, "exited")

    def _runtime(self, state: LabState) -> Runtime:
        return make_runtime(state.runtime, self.folder, state.security)


def _unit(state: LabState, name: str) -> Unit:
    try:
        return state.plan.unit(name)
    except KeyError:
        names = ", ".join(each.name for each in state.plan.units)
        raise InputError(f"{name!r} is no unit of this lab; there are {names}") from None


def _replicas(state: LabState, cluster: str) -> list[Unit]:
    found = [unit for unit in state.plan.units if unit.cluster == cluster]
    if not found:
        clusters = dict.fromkeys(unit.cluster for unit in state.plan.units if unit.cluster)
        raise InputError(f"{cluster!r} is no cluster of this lab; there are {', '.join(clusters)}")
    return found
