"""The faults of the bench ``blast-radius``, and how they are injected while every caller sends by every topology."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from threading import Event
from typing import TYPE_CHECKING

from lab.client.admin import AdminClient
from lab.clock import lab_time_ns
from lab.errors import LabError, UnitError
from lab.measure.compare import interleave
from lab.plugins.bench.harness.trials import Trials
from lab.roles import CONTROL_PLANE, MODEL, ROLES, Placement, Plan, Role
from lab.runs import LoadOptions, ParallelResult
from lab.runs.drive import DEFAULT_CONTEXTS
from lab.runs.fault_rounds import Radius, parallel_runs
from lab.runtime.cancellation import CancelToken
from lab.runtime.placement import spread
from lab.runtime.state import LabState
from lab.topologies import TOPOLOGIES
from lab.waiting import eventually

if TYPE_CHECKING:
    from lab.client.admin_values import ControlPlaneStatus
    from lab.faults import Fault
    from lab.lab import Lab
    from lab.load.progress import Progress
    from lab.plugins.bench.harness.environment import Environment

CALLER, CLUSTER = "homepage", "ml-cluster-1"
"""The caller whose sidecar and resolver are hit, and the cluster whose replicas are."""

RATE = 15.0
"""Requests per second of each caller by each topology."""

STEADY_S, HOLD_S, AFTER_S = 2.0, 2.5, 1.5
"""How long the lab is healthy before a fault, how long the fault lasts, and the pause once all nodes are back."""

TIMEOUT_S = 3.0

NODES = 3
"""Nodes over which the lab's pods are taken to be spread, where one is lost."""

TENANTS: Mapping[str, tuple[str, ...]] = {
    "homepage": ("consumer", "partner"),
    "search": ("consumer",),
    "playback": ("consumer", "partner"),
    "payments": ("business",),
}
"""Tenants of each caller's requests; ``consumer`` for callers that are not listed."""

_LEAD_S = 30.0
_POLL_S = 0.05
_STARTS_WITHIN_S = 60.0
_BACK_WITHIN = timedelta(seconds=20)


class Reach(StrEnum):
    """Which callers a fault must reach where requests pass through its victims."""

    EVERY_CALLER = "every caller"
    ONE_CALLER = "one caller"
    NOT_CLAIMED = "not claimed"


@dataclass(frozen=True, slots=True)
class BenchFault:
    """One fault of the bench: its name on the command line, and its text in tables.

    It hits at most ``most`` units of a role, of one cluster if given. For the kind see :mod:`lab.faults.kinds`; the
    target is the one victim if left out. With the time before and after it, it takes ``longest_s`` on a slow machine.
    """

    name: str
    text: str
    role: str = ""
    reach: Reach = Reach.NOT_CLAIMED
    kind: str = "kill"
    target: str = ""
    most: int | None = 1
    cluster: str = ""
    longest_s: float = 12.0

    def __str__(self) -> str:
        return self.text

    def victims(self, plan: Plan) -> list[str]:
        """Returns the units that it hits, none if the lab has none; first the one beside :data:`CALLER` if there is."""
        units = [unit for unit in plan.with_role(self.role) if not self.cluster or unit.cluster == self.cluster]
        return [unit.name for unit in sorted(units, key=lambda unit: unit.pod != CALLER)][: self.most]

    def is_in_path(self, topology: str) -> bool:
        """Whether requests of a topology pass through the victims, or ask them."""
        return self.role in (*TOPOLOGIES[topology].roles, *TOPOLOGIES[topology].path)

    def carries_payload(self, topology: str) -> bool:
        """Whether requests of a topology pass through the victims."""
        return self.role in TOPOLOGIES[topology].between

    def inject(self, lab: Lab, victims: list[str]) -> Fault:
        """Injects the fault; healing the one that is returned ends it."""
        return lab.faults.inject(self.kind, self.target or victims[0])


@dataclass(frozen=True, slots=True)
class NodeFault(BenchFault):
    """Everything ends that would share a node with :data:`CALLER`, with the pods spread over :data:`NODES` nodes."""

    def victims(self, plan: Plan) -> list[str]:
        """Returns the units of that node, none if the lab has no such caller."""
        return next((units for units in spread(plan, NODES).values() if CALLER in units), [])

    def is_in_path(self, topology: str) -> bool:
        """Always: every topology has callers and models."""
        del topology
        return True

    def inject(self, lab: Lab, victims: list[str]) -> Fault:
        """Injects the fault; healing the one that is returned ends it."""
        nodes = spread(LabState.of(lab.folder).plan, NODES)
        return lab.faults.inject(self.kind, next(node for node in nodes if nodes[node] == victims), nodes=NODES)


def bench_faults() -> dict[str, BenchFault]:
    """Returns all faults by name, in the order of tables: of each role that a topology has, then of the others."""
    roles = dict.fromkeys(role for topology in TOPOLOGIES.values() for role in topology.roles)
    of_roles = (fault for role in roles for fault in _faults_of(ROLES[role]))
    return {fault.name: fault for fault in (*of_roles, *_OTHERS)}


def _faults_of(role: Role) -> Iterator[BenchFault]:
    name, title = role.name, role.title[0].lower() + role.title[1:]
    match role.placement:
        case Placement.ALONE:
            yield BenchFault(f"{name}-killed", f"{title} killed", name, Reach.EVERY_CALLER)
        case Placement.BESIDE_CALLER:
            yield BenchFault(f"{name}-killed", f"one {name} killed", name, Reach.ONE_CALLER)
        case Placement.REPLICATED:
            yield BenchFault(f"{name}-killed", f"one {name} killed", name)
            yield BenchFault(f"{name}s-killed", f"all {title} killed", name, Reach.EVERY_CALLER, target=name, most=None)


_OTHERS = (
    BenchFault("control-plane-killed", "control plane killed", CONTROL_PLANE),
    BenchFault("replica-killed", "one replica killed", MODEL, cluster=CLUSTER),
    BenchFault("replica-paused", "one replica paused", MODEL, cluster=CLUSTER, kind="pause"),
    BenchFault("cluster-killed", "one cluster killed", MODEL, cluster=CLUSTER, target=CLUSTER, most=None),
    # Ten units start again, each a process.
    NodeFault("node-lost", f"one of {NODES} nodes lost", kind="node-loss", longest_s=90.0),
)


def run_faults(
    environment: Environment, faults: Sequence[BenchFault], topologies: Sequence[str], rounds: int
) -> tuple[ParallelResult, list[Radius]]:
    """Drives load, injects one fault after the other, and returns the runs and the radius of each fault and topology.

    Raises:
        UnitError: a driver did not start, or failed, or no fault could be carried out.
    """
    callers = list(environment.state.plan.callers)
    options = [
        LoadOptions(
            topology=topology,
            caller=caller,
            rate=RATE,
            duration_s=_LEAD_S + rounds * sum(fault.longest_s for fault in faults),
            contexts={**DEFAULT_CONTEXTS, "tenant": TENANTS.get(caller, ("consumer",))},
            seed=place,  # of its own for each: the same arrival times would make bursts
            timeout_s=TIMEOUT_S,
        )
        for place, (topology, caller) in enumerate((topology, caller) for topology in topologies for caller in callers)
    ]
    cancel_token, all_answer, calm = CancelToken(), Event(), _Calm()

    def look(seen: Mapping[str, Progress]) -> None:
        calm.look(list(seen.values()))
        if len(seen) == len(options) and all(each.ok for each in seen.values()):
            all_answer.set()

    with ThreadPoolExecutor(max_workers=1) as pool, AdminClient(environment.lab.endpoints().control_plane) as admin:
        environment.say(f"starting {len(options)} drivers")
        run = pool.submit(environment.lab.load_parallel, options, progress=look, cancel_token=cancel_token)
        run.add_done_callback(lambda _: all_answer.set())
        try:
            if not all_answer.wait(_STARTS_WITHIN_S):
                raise UnitError(f"not every driver was answered within {_STARTS_WITHIN_S:g} s: see `lab status`")
            watched = _WatchedLab(environment, admin, run, calm)
            trials = Trials(environment, interleave(faults, rounds), say_every=rounds + 1)
            for place, trial in enumerate(trials):
                fault = f"fault {place % len(faults) + 1} of {len(faults)}: {trial.cell.text}"
                environment.say(f"round {trial.number} of {rounds}, {fault}{trials.left()}")
                with trial:
                    watched.carry_out(trial.cell)
                    trial.keep(done=1.0)
            trials.require_one()
            time.sleep(STEADY_S)
        finally:
            cancel_token.cancel()
        result = run.result()
    runs = parallel_runs([each.folder for each in result.runs])
    seen = [
        replace(fault, name=injected.name, noticed_ns=noticed_ns)
        for fault, (injected, noticed_ns) in zip(runs.faults, watched.injected, strict=True)
    ]
    return result, runs.radii(seen)


class _Calm:
    """True once no driver has had a failed or slow request for :data:`AFTER_S` seconds."""

    def __init__(self) -> None:
        self._failed, self._restless_at = 0, time.monotonic()

    def __bool__(self) -> bool:
        return time.monotonic() - self._restless_at > AFTER_S

    def look(self, runs: Sequence[Progress]) -> None:
        """Takes the progress of all drivers, several times a second."""
        failed, in_flight = sum(each.failed for each in runs), sum(each.in_flight for each in runs)
        if failed > self._failed or in_flight > len(runs):
            self._restless_at = time.monotonic()
        self._failed = failed


class _WatchedLab:
    """A lab that faults are injected into, watched through its control plane.

    Attributes:
        injected: the faults so far, and when the control plane noticed each, Unix ns; None if it did not.
    """

    def __init__(self, environment: Environment, admin: AdminClient, run: Future[ParallelResult], calm: _Calm) -> None:
        self._environment, self._admin, self._run, self._calm = environment, admin, run, calm
        self.injected: list[tuple[BenchFault, int | None]] = []

    def carry_out(self, fault: BenchFault) -> None:
        """Runs one fault, from steady to steady again."""
        victims = fault.victims(self._environment.state.plan)
        before = self._alive()
        self._rest(STEADY_S)
        began = time.monotonic()
        injected = fault.inject(self._environment.lab, victims)
        self.injected.append((fault, None))
        try:
            noticed_ns = self._noticed(set(victims), began + HOLD_S) if before & set(victims) else None
            self.injected[-1] = (fault, noticed_ns)
            self._rest(began + HOLD_S - time.monotonic())
        finally:
            injected.heal()
        eventually(
            f"all nodes are back after: {fault.text}",
            lambda: before - self._alive(),
            within=_BACK_WITHIN,
            until=lambda missing: not missing,
        )
        self._rest(AFTER_S)
        until = time.monotonic() + _BACK_WITHIN.total_seconds()
        while not self._calm and time.monotonic() < until:  # if it never is, the next fault's figures are unknown
            self._rest(_POLL_S)

    def _noticed(self, victims: set[str], until: float) -> int | None:
        """When the control plane no longer counts on any victim; None if it still does in the end."""
        while time.monotonic() < until:
            if not self._alive() & victims:
                return lab_time_ns()
            time.sleep(_POLL_S)
        return None

    def _alive(self) -> set[str]:
        """Nodes with a stream to the control plane, and replicas that serve; none if it does not answer."""
        try:
            known: ControlPlaneStatus = self._admin.status()
        except LabError:
            return set()
        serving = {each.replica for each in known.replicas if each.loaded and not each.draining}
        return {node.node for node in known.nodes} | serving

    def _rest(self, seconds: float) -> None:
        """Waits.

        Raises:
            LabError: the load has ended.
        """
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._run.done():
                self._run.result()
                raise LabError("the load ended before all faults were done; see the folder of its runs")
            time.sleep(min(left, 0.1))
