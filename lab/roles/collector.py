"""The collector: keeps the spans of the lab's latest requests, where they are traced and go nowhere else."""

from __future__ import annotations

from collections.abc import Iterator

from lab.roles._role import Layout, Placement, Role, python
from lab.roles._unit import COLLECTOR, CONTROL_PLANE, Unit

_SPANS = "spans.sqlite"


def _units(lab: Layout, caller: str) -> Iterator[Unit]:
    if not caller:
        port = lab.site.port(COLLECTOR, "grpc")
        argv = python(
            "services.collector",
            listen=port.bind,
            spans=lab.site.path(COLLECTOR, _SPANS),
            clients=lab.names_of(lambda role: role.name not in (COLLECTOR, CONTROL_PLANE)),
        )
        yield Unit(COLLECTOR, COLLECTOR, argv, port, pod=COLLECTOR)


ROLE = Role(name=COLLECTOR, title="Collector of traces", placement=Placement.ALONE, units=_units)
