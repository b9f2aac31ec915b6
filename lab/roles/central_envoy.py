"""The one Envoy that all callers share, which routes their requests by the header."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lab.roles._asked import copies_dropped_by_envoy
from lab.roles._envoy import ENVOY_HEADERS, envoy
from lab.roles._follows import Follows
from lab.roles._probe import Probe
from lab.roles._role import Layout, Placement, Role
from lab.routing.headers import PROVED_CALLER

if TYPE_CHECKING:
    from lab.roles._unit import Unit

_NAME = "central-envoy"


def _units(lab: Layout, caller: str) -> Iterator[Unit]:
    if not caller:
        yield envoy(lab, _NAME, _NAME, lab.site.port(_NAME, "grpc"))


ROLE = Role(
    name=_NAME,
    title="Central Envoy",
    placement=Placement.ALONE,
    units=_units,
    probe=Probe.HTTP_READY,
    follows=Follows.XDS,
    calls_models=True,
    marks_path=True,
    adds_headers=ENVOY_HEADERS | {PROVED_CALLER},
    checked_by=("path",),
    copies_dropped=copies_dropped_by_envoy,
    memory_mb=512,
)
