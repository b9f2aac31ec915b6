"""The parts that a topology's requests pass, and where they run."""

from __future__ import annotations

from dataclasses import dataclass

from lab.roles import ROLES, Placement
from lab.topologies import TOPOLOGIES


@dataclass(frozen=True, slots=True)
class PathComponents:
    """The parts of one topology.

    Attributes:
        beside: parts on the caller's machine, the caller first.
        central: parts that all callers share, in the order of the path; empty if there are none.
        balancer: the part that keeps connections to the models' replicas and chooses one.
    """

    beside: tuple[str, ...]
    central: tuple[str, ...]
    balancer: str

    @property
    def parts(self) -> tuple[str, ...]:
        """All parts, in the order of the path."""
        return (*self.beside, *self.central)

    @property
    def hops(self) -> int:
        """Number of times that a payload goes from one machine to another."""
        return 1 + len(self.central)


def components(topology: str) -> PathComponents:
    """The parts of a topology, from its path and its roles' placement.

    Raises:
        InputError: the topology is not known.
    """
    named = TOPOLOGIES[topology]
    roles = [ROLES[name] for name in (named.path[0], *named.roles)]
    return PathComponents(
        beside=tuple(role.part for role in roles if role.placement is Placement.BESIDE_CALLER),
        central=tuple(role.part for role in roles if role.placement is not Placement.BESIDE_CALLER),
        balancer=ROLES[named.balancer].part,
    )
