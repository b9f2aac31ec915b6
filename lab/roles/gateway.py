"""The API gateway: authenticates, applies the rules, limits tenants, and forwards to a replica."""

from __future__ import annotations

from collections.abc import Iterator

from lab.roles._asked import copies_dropped_by_gateway, gateway_decides
from lab.roles._follows import Follows
from lab.roles._probe import Probe
from lab.roles._role import Layout, Placement, Role, python
from lab.roles._unit import ACCESS_LOG, Unit
from lab.routing.headers import PREFILLER, REQUEST_ID, RETRIES_LEFT, TRACE, VIA
from lab.routing.keys import COPY_HEADER, HEADER

_NAME = "gateway"


def _units(lab: Layout, caller: str) -> Iterator[Unit]:
    for number in range(1, lab.spec.gateway.replicas + 1) if not caller else ():
        name = f"{_NAME}-{number}"
        port, rest = lab.site.port(name, "grpc", group=_NAME), lab.site.port(name, "rest", group=_NAME)
        argv = python(
            "services.gateway",
            name=name,
            listen=port.bind,
            rest=rest.bind,
            control_plane=lab.control_plane(name),
            replicas=lab.spec.gateway.replicas,
            access_log=lab.site.path(name, ACCESS_LOG),
        )
        files, options = lab.picker(name)
        if options:
            options += ["--signal", lab.spec.signal.model_dump_json()]
        yield Unit(name, _NAME, (*argv, *options), port, files=files, pod=name, rest=rest, logs_requests=True)


ROLE = Role(
    name=_NAME,
    title="Gateways",
    placement=Placement.REPLICATED,
    units=_units,
    probe=Probe.CONNECTED,
    follows=Follows.RULES_AND_ENDPOINTS,
    calls_models=True,
    marks_path=True,
    passes_headers=False,
    adds_headers=frozenset({HEADER, COPY_HEADER, REQUEST_ID, RETRIES_LEFT, VIA, PREFILLER}) | TRACE,
    checked_by=("path", "convergence"),
    decides=gateway_decides,
    copies_dropped=copies_dropped_by_gateway,
    memory_mb=512,
)
