"""The faults of the bench ``blast-radius``: which units each hits, and which topologies have these in their path."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from lab.roles import CONTROL_PLANE, MODEL, ROLES, Placement
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.faults import Fault
    from lab.lab import Lab
    from lab.roles import Plan, Role

CALLER, CLUSTER = "homepage", "ml-cluster-1"
"""The caller whose sidecar and resolver are hit, and the cluster whose replicas are."""


class Reach(StrEnum):
    """Which callers a fault must reach where requests pass through its victims."""

    EVERY_CALLER = "every caller"
    ONE_CALLER = "one caller"
    NOT_CLAIMED = "not claimed"


@dataclass(frozen=True, slots=True)
class BenchFault:
    """One fault of the bench.

    Attributes:
        name: as the command line has it.
        text: as tables have it.
        role: of the units that it hits.
        victims: returns the names of these units; none if the lab has no such units.
        reach: which callers it must reach.
        kind: of fault, see :mod:`lab.faults.kinds`.
        target: of the fault; the victim if left out, of which there is one then.
    """

    name: str
    text: str
    role: str
    victims: Callable[[Plan], list[str]]
    reach: Reach = Reach.NOT_CLAIMED
    kind: str = "kill"
    target: str = ""

    def is_in_path(self, topology: str) -> bool:
        """Whether requests of a topology pass through the victims, or ask them."""
        return self.role in (*TOPOLOGIES[topology].asks, *TOPOLOGIES[topology].path)

    def carries_payload(self, topology: str) -> bool:
        """Whether requests of a topology pass through the victims."""
        return self.role in TOPOLOGIES[topology].between

    def inject(self, lab: Lab, victims: list[str]) -> Fault:
        """Injects the fault."""
        return lab.faults.inject(self.kind, self.target or victims[0])


def bench_faults() -> dict[str, BenchFault]:
    """Returns all faults by name, in the order of tables: of each role that a topology has, then of the others."""
    roles = dict.fromkeys(role for topology in TOPOLOGIES.values() for role in topology.roles)
    of_roles = (fault for role in roles for fault in _faults_of(ROLES[role]))
    return {fault.name: fault for fault in (*of_roles, *_OTHERS)}


def _faults_of(role: Role) -> Iterator[BenchFault]:
    name, title = role.name, role.title[0].lower() + role.title[1:]
    match role.placement:
        case Placement.ALONE:
            yield BenchFault(f"{name}-killed", f"{title} killed", name, _one(name), Reach.EVERY_CALLER)
        case Placement.BESIDE_CALLER:
            yield BenchFault(f"{name}-killed", f"one {name} killed", name, _one(name), Reach.ONE_CALLER)
        case Placement.REPLICATED:
            yield BenchFault(f"{name}-killed", f"one {name} killed", name, _one(name))
            yield BenchFault(
                f"{name}s-killed", f"all {title} killed", name, _all(name), Reach.EVERY_CALLER, target=name
            )


def _one(role: str) -> Callable[[Plan], list[str]]:
    """The unit beside :data:`CALLER` if there is one, else the first."""

    def victims(plan: Plan) -> list[str]:
        units = sorted(plan.with_role(role), key=lambda unit: unit.pod != CALLER)
        return [unit.name for unit in units[:1]]

    return victims


def _all(role: str) -> Callable[[Plan], list[str]]:
    return lambda plan: [unit.name for unit in plan.with_role(role)]


def _replicas(most: int | None = None) -> Callable[[Plan], list[str]]:
    return lambda plan: [unit.name for unit in plan.with_role(MODEL) if unit.cluster == CLUSTER][:most]


_OTHERS = (
    BenchFault("control-plane-killed", "control plane killed", CONTROL_PLANE, lambda _: [CONTROL_PLANE]),
    BenchFault("replica-killed", "one replica killed", MODEL, _replicas(1)),
    BenchFault("replica-paused", "one replica paused", MODEL, _replicas(1), kind="pause"),
    BenchFault("cluster-killed", "one cluster killed", MODEL, _replicas(), target=CLUSTER),
)
