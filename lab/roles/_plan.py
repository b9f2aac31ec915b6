"""From spec to plan: the units of a lab, with their commands, files and addresses, for any runtime."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lab.errors import SpecError
from lab.links import ROLE as LINK
from lab.roles._links import check_zones, crossings, port_from, zones_document
from lab.roles._metrics import with_metrics
from lab.roles._observed import with_environment
from lab.roles._registry import ROLES
from lab.roles._role import Layout, Role
from lab.roles._unit import CALLER, COLLECTOR, CONTROL_PLANE, MODEL, Site, Unit
from lab.routing.document import RouteTable
from lab.transport.xds import ROLE as PROXYLESS

if TYPE_CHECKING:
    from lab.client import Endpoints
    from lab.spec import LabSpec

LOAD = "load"
"""What drivers of load are called beside the units."""
_NODES, _ZONES = "nodes.json", "zones.json"


@dataclass(frozen=True, slots=True)
class Plan:
    """All units of a lab.

    Attributes:
        units: in the order of starting.
        callers: caller → the addresses that it connects to.
        clients: caller → the same addresses for programs on this machine.
        load_metrics: ``host:port`` of this machine at which drivers of load serve metrics; empty for none.
    """

    units: tuple[Unit, ...]
    callers: Mapping[str, Endpoints]
    clients: Mapping[str, Endpoints]
    load_metrics: str = ""

    def unit(self, name: str) -> Unit:
        """The unit of that name.

        Raises:
            KeyError: there is none.
        """
        for unit in self.units:
            if unit.name == name:
                return unit
        raise KeyError(name)

    def with_role(self, role: str) -> list[Unit]:
        """All units of a role."""
        return [unit for unit in self.units if unit.role == role]

    @property
    def control_plane(self) -> str:
        """Where programs on this machine reach the control plane; of several all, comma-separated."""
        return ",".join(unit.address for unit in self.with_role(CONTROL_PLANE))


def plan(spec: LabSpec, table: RouteTable, site: Site) -> Plan:
    """Lays out a lab: the units that all callers share, then the units beside each caller.

    Raises:
        InputError: a topology or the spec names an unknown role, or the spec sets what a role does not have.
    """
    _check_extra_roles(spec)
    shared = _with_units(layout_of(spec, site, table), "")
    units, callers, clients = shared.units, {}, {}
    for caller in spec.callers:
        beside = _with_units(shared, caller)
        units += beside.units[len(shared.units) :]
        callers[caller] = beside.endpoints(caller, lambda port: port.inside)
        clients[caller] = beside.endpoints(caller, lambda port: port.outside)
    load_metrics = site.outside(LOAD, "metrics") if spec.metrics else ""
    if spec.links:
        check_zones(spec.links, units, spec)
        units = _with_zones(shared, units)
    return Plan(tuple(_with_nodes(unit, units, site) for unit in units), callers, clients, load_metrics)


def _with_zones(shared: Layout, units: Sequence[Unit]) -> tuple[Unit, ...]:
    """The units: control planes with the zones, and targets of links with the hosts of these as further names."""
    aliases: dict[str, set[str]] = {}
    for zone, _, target in crossings(shared.spec, shared.units):
        port = port_from(shared.spec, shared.site, zone, target)
        aliases.setdefault(target.name, set()).update(each.rpartition(":")[0] for each in (port.inside, port.outside))
    zones = json.dumps(zones_document(shared.spec, shared.site, units))

    def with_zones(unit: Unit) -> Unit:
        if unit.role == CONTROL_PLANE:
            argv = (*unit.argv, "--zones", shared.site.path(unit.name, _ZONES))
            return replace(unit, argv=argv, files={**unit.files, _ZONES: zones})
        more = sorted(aliases.get(unit.name, set()) - unit.hosts)
        return replace(unit, aliases=(*unit.aliases, *more)) if more else unit

    return tuple(map(with_zones, units))


def _with_nodes(unit: Unit, units: Sequence[Unit], site: Site) -> Unit:
    """The unit; a control plane with the names of the nodes that it serves, by role."""
    if unit.role != CONTROL_PLANE:
        return unit
    nodes: dict[str, list[str]] = {}
    for each in units:
        follows = ROLES[each.role].follows
        if follows.rules or follows.xds:
            nodes.setdefault(each.role, []).append(each.name)
        if follows.xds_client:
            nodes.setdefault(PROXYLESS, []).append(each.name)
    argv = (*unit.argv, "--nodes", site.path(unit.name, _NODES))
    return replace(unit, argv=argv, files={**unit.files, _NODES: json.dumps(nodes)})


def _check_extra_roles(spec: LabSpec) -> None:
    for role, given in spec.extra_roles.items():
        settings = ROLES[role].settings
        if settings is None:
            optional = ", ".join(name for name, each in ROLES.items() if each.settings is not None)
            raise SpecError(f"extra_roles.{role}: is not a role that a lab may have or not; there are {optional}")
        for name, value in given.items():
            if name not in settings:
                raise SpecError(f"extra_roles.{role}.{name}: no such setting; there are {', '.join(settings)}")
            if value not in settings[name].within:
                raise SpecError(f"extra_roles.{role}.{name}: {value:g} is out of range: use {settings[name].within}")


def roles_of(spec: LabSpec) -> tuple[Role, ...]:
    """All roles of a lab, in the order in which their units start.

    Raises:
        InputError: a topology names an unknown role.
    """
    collector = [COLLECTOR] if spec.keeps_traces else []
    links = [LINK] if spec.links else []  # after all that they lead to
    return tuple(
        ROLES[name] for name in (CONTROL_PLANE, *collector, MODEL, *sorted(spec.roles - {LINK}), *links, CALLER)
    )


def layout_of(spec: LabSpec, site: Site, table: RouteTable | None = None) -> Layout:
    """An empty layout; ``table`` may be left out for units that need none, such as one more replica.

    Raises:
        InputError: a topology names an unknown role.
    """
    return Layout(spec, table or RouteTable.from_document({}), site, roles_of(spec))


def _with_units(lab: Layout, caller: str) -> Layout:
    for role in lab.roles:
        units = (with_metrics(lab, with_environment(lab, unit)) for unit in role.units(lab, caller))
        lab = replace(lab, units=(*lab.units, *units))
    return lab
