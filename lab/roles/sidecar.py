"""The Envoy beside each caller, which routes the caller's requests by their header."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lab.identity import sidecar_of
from lab.roles._asked import copies_dropped_by_envoy
from lab.roles._envoy import ENVOY_HEADERS, envoy
from lab.roles._follows import Follows
from lab.roles._probe import Probe
from lab.roles._role import Layout, Placement, Role

if TYPE_CHECKING:
    from lab.roles._unit import Unit

_NAME, _PORT = "sidecar", 9002


def _units(lab: Layout, caller: str) -> Iterator[Unit]:
    if caller:
        name = sidecar_of(caller).name
        yield envoy(lab, name, _NAME, lab.site.port_beside(name, caller, _PORT), caller)


ROLE = Role(
    name=_NAME,
    title="Sidecars",
    placement=Placement.BESIDE_CALLER,
    units=_units,
    probe=Probe.HTTP_READY,
    follows=Follows.XDS,
    calls_models=True,
    marks_path=True,
    adds_headers=ENVOY_HEADERS,
    checked_by=("path",),
    copies_dropped=copies_dropped_by_envoy,
    takes_plaintext_beside=True,
    port=_PORT,
)
