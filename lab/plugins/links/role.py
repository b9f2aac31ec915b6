"""A relay for each link: from a zone to a model replica, or to a unit between callers and models, in another zone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lab.errors import SpecError
from lab.links import ROLE as NAME
from lab.links import link_name
from lab.plugins.links.control import read
from lab.roles import Placement, Role, Unit, python
from lab.roles._links import RELAY, crossings

if TYPE_CHECKING:
    from lab.roles import Layout

MOST = 300
"""Links of a lab: each is a process."""


def _units(lab: Layout, caller: str) -> Iterator[Unit]:
    if caller or lab.spec.links is None:
        return
    needed = list(crossings(lab.spec, lab.units))
    if len(needed) > MOST:
        raise SpecError(f"links: {len(needed):,} are more than a lab can hold; use {MOST} at most, or fewer zones")
    for here, there, target in needed:
        name = link_name(here, target.name)
        port, relay = lab.site.port(name, "grpc"), lab.site.port(name, RELAY)
        links = lab.spec.links
        argv = python(
            "lab.plugins.links",
            name=name,
            listen=port.bind,
            relay=relay.bind,
            target=target.port.inside,
            there=json.dumps(links.link(here, there).model_dump(exclude_defaults=True)),
            back=json.dumps(links.link(there, here).model_dump(exclude_defaults=True)),
        )
        yield Unit(name, NAME, argv, port, pod=name, relay=relay)


ROLE = Role(
    name=NAME,
    title="Links",
    placement=Placement.REPLICATED,
    units=_units,
    adds_headers=frozenset(),
    figures=read,
)
