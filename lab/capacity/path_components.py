"""What each topology has between caller and model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.capacity.costs import CALLER

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Way:
    """One topology.

    Attributes:
        beside: parts on the caller's machine, the caller itself among them.
        central: the part that all callers share; empty if there is none.
        balancer: the part that keeps connections to the models' replicas, and chooses one.
    """

    beside: tuple[str, ...]
    central: str
    balancer: str

    @property
    def parts(self) -> tuple[str, ...]:
        """All, in the order of the way."""
        return (*self.beside, self.central) if self.central else self.beside

    @property
    def hops(self) -> int:
        """How often a payload goes from one machine to another."""
        return 2 if self.central else 1


_GATEWAY = Way((CALLER,), "gateway", "gateway")
_MESH = Way((CALLER, "resolver", "sidecar"), "", "sidecar")

WAYS: Mapping[str, Way] = {
    "direct": Way((CALLER,), "", CALLER),
    "gateway": _GATEWAY,
    "gateway-passthrough": _GATEWAY,
    "gateway-header": Way((CALLER, "resolver"), "central-envoy", "central-envoy"),
    "mesh": _MESH,
    "mesh-unleased": _MESH,
    "proxyless": Way((CALLER, "resolver"), "", CALLER),
}
"""Topology → its way."""
