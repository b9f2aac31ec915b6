"""Callers: services that answer a user's page by asking models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

from lab.page_call_tree import including
from lab.roles._follows import Follows
from lab.roles._role import Layout, Placement, Role, python
from lab.roles._unit import CALLER, Unit

_CONFIG = "caller.json"


def _units(lab: Layout, caller: str) -> Iterator[Unit]:
    if not caller:
        return
    port = lab.site.port(caller, "grpc", caller)
    pages = lab.spec.pages
    parts = {part for stage in pages[caller] for part in stage} & pages.keys()
    config = {
        "endpoints": asdict(lab.endpoints(caller, lambda port: port.inside)),
        "topologies": list(lab.spec.topologies),
        "page": pages[caller],
        "callers": {name: lab.site.port(name, "grpc", name).from_other_pods for name in sorted(parts)},
        "part_of": including(pages, caller),
        "apis": lab.apis,
    }
    if fronting := [role.name for role in lab.roles if role.fronts_pages]:
        config["fronted_by"] = fronting
    argv = python(
        "services.caller",
        name=caller,
        listen=port.bind,
        config=lab.site.path(caller, _CONFIG),
        **lab.request_log(caller),
    )
    added, options = lab.plugin_files(caller)
    files = {_CONFIG: json.dumps(config, indent=1), **added}
    yield Unit(caller, CALLER, (*argv, *options), port, files=files, pod=caller, logs_requests=lab.spec.log_requests)


ROLE = Role(
    name=CALLER,
    title="Callers",
    placement=Placement.BESIDE_CALLER,
    units=_units,
    follows=Follows.XDS_CLIENT,
    calls_models=True,
)
