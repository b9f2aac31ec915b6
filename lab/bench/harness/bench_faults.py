"""What the bench ``blast-radius`` does to a lab, and how it is undone: the only place that knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.roles import CONTROL_PLANE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lab.faults import Fault
    from lab.lab import Lab
    from lab.plan import Plan

CALLER, CLUSTER = "homepage", "ml-cluster-1"
"""Whose sidecar and resolver, and whose replicas, are harmed."""

_GATEWAYS = frozenset({"gateway", "gateway-passthrough"})
_MESHES = frozenset({"mesh", "mesh-unleased"})
_RESOLVED = frozenset({"gateway-header", "mesh", "mesh-unleased", "proxyless"})


@dataclass(frozen=True, slots=True)
class Harm:
    """One fault of the bench.

    Attributes:
        name: as the command line has it.
        text: as tables have it.
        victims: from the plan of a lab, the units; none if it has no such units.
        path: topologies on whose way from caller to model the victims stand; None for all.
        kind: of fault, see :mod:`lab.faults.kinds`.
        target: what it is aimed at; the victim if left out, of which there is one then.
    """

    name: str
    text: str
    victims: Callable[[Plan], list[str]]
    path: frozenset[str] | None
    kind: str = "kill"
    target: str = ""

    def is_on_path(self, topology: str) -> bool:
        """Whether requests of a topology pass through the victims, or ask them."""
        return self.path is None or topology in self.path

    def inject(self, lab: Lab, victims: list[str]) -> Fault:
        """Does it."""
        return lab.faults.inject(self.kind, self.target or victims[0])


def _with_role(role: str, most: int | None = None) -> Callable[[Plan], list[str]]:
    return lambda plan: [unit.name for unit in plan.with_role(role)][:most]


def _beside_caller(role: str) -> Callable[[Plan], list[str]]:
    return lambda plan: [unit.name for unit in plan.with_role(role) if unit.pod == CALLER]


def _replicas(most: int | None = None) -> Callable[[Plan], list[str]]:
    return lambda plan: [unit.name for unit in plan.with_role("model") if unit.cluster == CLUSTER][:most]


HARMS: Mapping[str, Harm] = {
    harm.name: harm
    for harm in (
        Harm("gateway-killed", "one gateway killed", _with_role("gateway", 1), _GATEWAYS),
        Harm("gateways-killed", "all gateways killed", _with_role("gateway"), _GATEWAYS, target="gateway"),
        Harm(
            "central-envoy-killed", "central Envoy killed", _with_role("central-envoy"), frozenset({"gateway-header"})
        ),
        Harm("sidecar-killed", "one sidecar killed", _beside_caller("sidecar"), _MESHES),
        Harm("resolver-killed", "one resolver killed", _beside_caller("resolver"), _RESOLVED),
        Harm("control-plane-killed", "control plane killed", lambda _: [CONTROL_PLANE], frozenset()),
        Harm("replica-killed", "one replica killed", _replicas(1), None),
        Harm("replica-paused", "one replica paused", _replicas(1), None, "pause"),
        Harm("cluster-killed", "one cluster killed", _replicas(), None, target=CLUSTER),
    )
}
"""All by name, in the order of tables."""
