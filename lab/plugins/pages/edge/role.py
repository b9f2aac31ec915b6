"""The role ``edge``: one unit in front of pages, in labs whose spec names it in ``extra_roles``."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lab.bounds import RATE
from lab.roles import ACCESS_LOG, Placement, Role, Setting, Unit, python

if TYPE_CHECKING:
    from lab.roles import Layout

NAME = "edge"
KEY_VARIABLE = "LAB_USER_TOKEN_KEY"
"""Variable of the environment with the key of users' tokens, hexadecimal; only the edge and drivers have it."""

_USER_RPS, _CALLERS = "user_rps", "callers.json"


def _units(lab: Layout, caller: str) -> Iterator[Unit]:
    if caller:
        return
    port = lab.site.port(NAME, "grpc")
    callers = {name: lab.site.port(name, "grpc", name).from_other_pods for name in lab.spec.callers}
    argv = python(
        "lab.plugins.pages.edge",
        name=NAME,
        listen=port.bind,
        callers=lab.site.path(NAME, _CALLERS),
        user_rps=f"{lab.setting(NAME, _USER_RPS):g}",
        access_log=lab.site.path(NAME, ACCESS_LOG),
    )
    yield Unit(
        NAME,
        NAME,
        argv,
        port,
        files={_CALLERS: json.dumps(callers)},
        pod=NAME,
        logs_requests=True,
        environment={KEY_VARIABLE: secrets.token_hex(32)},
    )


ROLE = Role(
    name=NAME,
    title="Edge",
    placement=Placement.ALONE,
    units=_units,
    settings={_USER_RPS: Setting(20, RATE)},
    fronts_pages=True,
    drivers_share=(KEY_VARIABLE,),
)
