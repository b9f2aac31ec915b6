"""Addresses of the control plane: one, or several that serve the revisions of one store.

Several are written as one address, with commas between: a client uses the first that it can reach, or all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from lab.roles._unit import CONTROL_PLANE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.roles._unit import Port
    from lab.spec import LabSpec

T = TypeVar("T")

_SEEN = ("inside", "outside")


def names(spec: LabSpec) -> list[str]:
    """Names of a lab's control planes."""
    return [CONTROL_PLANE, *(f"{CONTROL_PLANE}-{number}" for number in range(2, spec.control_planes + 1))]


def in_turn(entries: Sequence[T], unit: str) -> list[T]:
    """The entries rotated by the unit's name, so that not all units go to the first."""
    return _rotated(entries, sum(unit.encode()) % len(entries))


def aliases(ports: Sequence[Port]) -> tuple[str, ...]:
    """All orders of several control planes' addresses, with commas between; clients know all of them by such a name."""
    if len(ports) == 1:
        return ()
    orders = [_rotated(ports, first) for first in range(len(ports))]
    return tuple(sorted({",".join(getattr(port, seen) for port in its) for its in orders for seen in _SEEN}))


def _rotated(entries: Sequence[T], first: int) -> list[T]:
    return [*entries[first:], *entries[:first]]
