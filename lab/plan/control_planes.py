"""Where units find the control plane: one, or several that serve the revisions of one store.

Several are written as one address, with commas between: whoever goes there takes the first that can be reached, or all.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.plan.units import Port, Site
    from lab.spec import LabSpec

T = TypeVar("T")

CONTROL_PLANE = "control-plane"
"""Role of control planes, and name of the first."""


def names(spec: LabSpec) -> list[str]:
    """Of all of a lab."""
    return [CONTROL_PLANE, *(f"{CONTROL_PLANE}-{number}" for number in range(2, spec.control_planes + 1))]


def address(spec: LabSpec, unit: str, site: Site) -> str:
    """Where a unit finds all of them, in its turn."""
    return ",".join(site.port(name, "grpc").inside for name in in_turn(names(spec), unit))


def in_turn(entries: Sequence[T], unit: str) -> list[T]:
    """The same in an order that is not every unit's, so that not all go to the first."""
    return _rotated(entries, sum(unit.encode()) % len(entries))


def together(ports: Sequence[Port]) -> tuple[str, ...]:
    """All that several of them may be called as one, by whom :func:`address` was given; none if there is but one."""
    if len(ports) == 1:
        return ()
    orders = [_rotated(ports, first) for first in range(len(ports))]
    return tuple(sorted({",".join(getattr(port, seen) for port in its) for its in orders for seen in _SEEN}))


_SEEN = ("inside", "outside")


def _rotated(entries: Sequence[T], first: int) -> list[T]:
    return [*entries[first:], *entries[:first]]


def xds_endpoints(addresses: str) -> str:
    """For an Envoy's bootstrap: endpoints that it tries in turn."""
    hosts_and_ports = [each.rsplit(":", 1) for each in addresses.split(",")]
    return json.dumps(
        [
            {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}
            for host, port in hosts_and_ports
        ]
    )
