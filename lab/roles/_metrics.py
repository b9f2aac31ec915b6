"""The port at which a unit serves metrics."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.roles._role import Layout
    from lab.roles._unit import Unit

_FROM_GRPC = 100
"""From the number of a unit's gRPC port to that of its metrics, in a container."""


def with_metrics(lab: Layout, unit: Unit) -> Unit:
    """The unit, with a port for metrics if the lab serves any; Envoys have them on their admin page."""
    if not lab.spec.metrics or unit.metrics or unit.argv[0] != "python":
        return unit
    number = next(role.port for role in lab.roles if role.name == unit.role) + _FROM_GRPC
    port = lab.site.port(unit.name, "metrics", unit.pod if unit.pod != unit.name else "", number)
    return replace(unit, argv=(*unit.argv, "--metrics", port.bind), metrics=port)
