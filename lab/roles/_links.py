"""Zones and links of a lab: who is where, and by which address units of a zone reach a target."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lab.errors import SpecError
from lab.links import ROLE, link_name
from lab.roles._unit import CALLER, MODEL, Port, Site, Unit
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from lab.links import LinksSpec
    from lab.spec import LabSpec

RELAY = "relay"
"""Name of the port at which a link takes connections."""
LOCAL_CLUSTER = "originating"
"""Cluster of an Envoy that says in which zones the requests begin, see Envoy's zone-aware routing."""


def zone_of(spec: LabSpec, unit: Unit) -> str:
    """The zone of a unit, which shares that of the caller beside it; empty if it is in none."""
    if spec.links is None or unit.role == ROLE:
        return ""
    if unit.pod in spec.callers:
        return zone_of_caller(spec, unit.pod)
    return spec.links.zone_of(filter(None, (unit.name, unit.cluster, unit.role)))


def zone_of_caller(spec: LabSpec, caller: str) -> str:
    """The zone of a caller; empty if it is in none."""
    return spec.links.zone_of((caller, CALLER)) if spec.links else ""


def linked_roles(spec: LabSpec) -> set[str]:
    """Roles whose units are reached through links: models, and what stands between callers and them."""
    return {MODEL}.union(*(TOPOLOGIES[name].between for name in spec.topologies))


def crossings(spec: LabSpec, units: Iterable[Unit]) -> Iterator[tuple[str, str, Unit]]:
    """Each link that a lab needs: the zone that it leaves from, its target's zone, and its target."""
    callers = {zone_of_caller(spec, caller) for caller in spec.callers}
    linked = [unit for unit in units if unit.role in linked_roles(spec) and unit.pod not in spec.callers]
    between = {zone_of(spec, unit) for unit in linked if unit.role != MODEL}
    for unit in linked:
        if there := zone_of(spec, unit):
            zones = callers | between if unit.role == MODEL else callers
            for here in sorted(zones - {there, ""}):
                yield here, there, unit


def port_from(spec: LabSpec, site: Site, zone: str, unit: Unit) -> Port:
    """The port by which units of a zone reach a unit: that of a link if it is in another zone, else its own."""
    there = zone_of(spec, unit) if unit.role in linked_roles(spec) else ""
    return site.port(link_name(zone, unit.name), RELAY) if zone and there and zone != there else unit.port


def check_zones(links: LinksSpec, units: Iterable[Unit], spec: LabSpec) -> None:
    """Raises SpecError if a zone names nothing of the lab, if something is in no zone, or if names collide."""
    units = [unit for unit in units if unit.role != ROLE]
    shared = [unit for unit in units if unit.role in linked_roles(spec) and unit.pod not in spec.callers]
    placed = [*(unit for unit in units if unit.role == CALLER), *shared]
    known = {name for unit in placed for name in (unit.name, unit.cluster, unit.role) if name}
    others = {role for topology in TOPOLOGIES.values() for role in topology.between}  # of topologies left out
    if strange := sorted(each for each in links.members - known if not {each, each.rpartition("-")[0]} & others):
        raise SpecError(
            f"links.zones: {strange[0]} is not a caller, cluster, or unit between them; there are "
            f"{', '.join(sorted(known))}"
        )
    for unit in placed:
        if not zone_of(spec, unit):
            raise SpecError(f"links.zones: {unit.cluster or unit.name} is in no zone; add it to one")
    names = {unit.name for unit in units}
    for zone in links.zones:
        if taken := sorted(name for unit in placed if (name := link_name(zone, unit.name)) in names):
            raise SpecError(f"links.zones: {taken[0]} is the name of a unit already; rename the zone {zone}")


def zones_document(spec: LabSpec, site: Site, units: Sequence[Unit]) -> dict[str, Any]:
    """What a control plane needs to know: zones of its nodes and of models, and the addresses of links by zone."""
    models = [unit for unit in units if unit.role == MODEL]
    reached: dict[str, dict[str, str]] = {}
    for here, _, unit in crossings(spec, units):
        if unit.role == MODEL:
            reached.setdefault(here, {})[unit.port.inside] = port_from(spec, site, here, unit).inside
    return {
        "nodes": {
            unit.name: zone for unit in units if unit.role not in (MODEL, ROLE) and (zone := zone_of(spec, unit))
        },
        "targets": {unit.port.inside: zone_of(spec, unit) for unit in models},
        "reached": reached,
    }


def zone_options(
    spec: LabSpec, site: Site, name: str, role: str, caller: str
) -> tuple[tuple[str, ...], dict[str, str], str]:
    """Of an Envoy in a zone: its options, the parts of its bootstrap, and the file with its originating cluster.

    Envoy keeps requests in their zone as far as the share of the zone's replicas allows, by the shares of the zones in
    which requests begin. For that it needs its own zone, and the cluster of all Envoys that send the same requests.
    """
    if spec.links is None:
        return (), {}, ""
    places = [(zone_of_caller(spec, each), site.port(each, "grpc", each)) for each in spec.callers]
    if not caller:
        places = [(spec.links.zone_of((name, role)), site.port(name, "grpc"))]
    zone = zone_of_caller(spec, caller) if caller else places[0][0]
    path = site.path(name, f"{LOCAL_CLUSTER}.json")
    return ("--service-zone", zone), _bootstrap(path), _endpoints(places)


def _bootstrap(path: str) -> dict[str, str]:
    source = f"{{resource_api_version: V3, path_config_source: {{path: {path!r}}}}}"
    cluster = (
        f"  - {{name: {LOCAL_CLUSTER}, type: EDS, connect_timeout: 1s, eds_cluster_config: {{eds_config: {source}}}}}\n"
    )
    return {"local_cluster_name": f"\n  local_cluster_name: {LOCAL_CLUSTER}", "local_cluster": cluster}


def _endpoints(places: Sequence[tuple[str, Port]]) -> str:
    """A file of endpoint discovery: the hosts of each zone."""
    by_zone: dict[str, list[dict[str, Any]]] = {}
    for zone, port in places:
        host, _, number = port.from_other_pods.rpartition(":")
        address = {"socket_address": {"address": host, "port_value": int(number)}}
        by_zone.setdefault(zone, []).append({"endpoint": {"address": address}})
    endpoints = [{"locality": {"zone": zone}, "lb_endpoints": hosts} for zone, hosts in sorted(by_zone.items())]
    assignment = {
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": LOCAL_CLUSTER,
        "endpoints": endpoints,
    }
    return json.dumps({"version_info": "1", "resources": [assignment]})
