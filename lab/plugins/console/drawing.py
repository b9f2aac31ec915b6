"""The places and edges of a topology, as the page draws them: callers on the left, model clusters on the right."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from lab.roles import CALLER, MODEL, ROLES, Placement
from lab.routing.document import RouteTable
from lab.routing.uses import keys_for
from lab.topologies import TOPOLOGIES, Topology

if TYPE_CHECKING:
    from lab.history import Record

# A gRPC library's own words for a connection that it could not open, or that broke.
_NO_CONNECTION = re.compile(
    r"failed to connect|connect failed|socket closed|connection reset|goaway|broken pipe", re.IGNORECASE
)
# A sidecar's reply begins so, and is about what lies behind it.
_FROM_SIDECAR = "routing key "


@dataclass(frozen=True, slots=True)
class DrawnUnit:
    """A unit as the page needs it; see :class:`lab.roles.Unit`."""

    name: str
    role: str
    pod: str


@dataclass(frozen=True, slots=True)
class Hops:
    """The edges that one request took, each ``from>to``.

    Attributes:
        taken: in order; of a failed request up to the one at which it failed.
        wanted: the edge to the wanted cluster, if another cluster answered; empty otherwise.
        copy: the edge of its shadow copy; empty if it was not marked for one.
    """

    taken: tuple[str, ...]
    wanted: str = ""
    copy: str = ""


class Drawing:
    """One topology with its callers, units and clusters.

    Args:
        topology: its name.
        callers: all that send.
        units: of the lab; those of a saved run, which are not known, are named by their roles.
        table: route table in force.
    """

    def __init__(
        self, topology: str, callers: Sequence[str], units: Sequence[DrawnUnit], table: Mapping[str, Any]
    ) -> None:
        self.topology = TOPOLOGIES[topology]
        self._callers, self._units = tuple(callers), tuple(units)
        self._table = RouteTable.from_document(dict(table))

    def cluster_of(self, routing_key: str) -> str:
        """The cluster of a routing key by the route table; empty if it has none."""
        version = self._table.versions.get(routing_key)
        return "" if version is None else version.cluster

    def place(self, role: str, caller: str) -> str:
        """The name of the place where a caller finds units of a role: a unit beside it, or a role that all share."""
        beside = next((unit.name for unit in self._units if unit.role == role and unit.pod == caller), "")
        if beside or any(unit.role == role for unit in self._units):
            return beside or role
        return f"{caller}-{role}" if ROLES[role].placement is Placement.BESIDE_CALLER else role

    def hops(self, record: Record, down: Collection[str] = ()) -> Hops:
        """The edges of a request.

        A failure is drawn at the edge to the first place on the path whose units are all down. Otherwise it is the
        first edge if the caller's connection failed, the one to the resolver if nothing was decided, else the last one.

        Args:
            record: of the request.
            down: units that are known not to run.
        """
        caller = record.caller
        path = [caller, *(self.place(role, caller) for role in self.topology.between)]
        edges = [f"{one}>{other}" for one, other in pairwise(path)]
        wanted = self.cluster_of(record.routing_key)
        copy = self.cluster_of(record.shadow)
        copy = f"{self._copier(caller)}>{copy}" if copy else ""
        if record.status == "OK":
            if not record.cluster:  # the caller's own default answer
                return Hops(tuple(edges[:1]))
            last = f"{path[-1]}>{record.cluster}"
            elsewhere = f"{path[-1]}>{wanted}" if wanted not in ("", record.cluster) else ""
            return Hops((*edges, last), elsewhere, copy)
        if not record.routing_key and self.topology.asks:
            return Hops((f"{caller}>{self.place(self.topology.asks[0], caller)}",))
        if edges and self._at_first(record):
            return Hops(tuple(edges[:1]))
        for number, name in enumerate(path[1:], 1):
            if down and set(self._units_at(name)) <= set(down):
                return Hops(tuple(edges[:number]))
        return Hops((*edges, f"{path[-1]}>{wanted}") if wanted else tuple(edges), "", copy)

    def _at_first(self, record: Record) -> bool:
        """Whether a request failed before it reached the first unit on its path."""
        lost = _NO_CONNECTION.search(record.message) and not record.message.startswith(_FROM_SIDECAR)
        return bool(lost) and (self.topology.decides_at_caller or not record.routing_key)

    def _copier(self, caller: str) -> str:
        role = self.topology.capabilities.shadow_by
        return caller if role in ("", CALLER) or role not in self.topology.between else self.place(role, caller)

    def to_document(self) -> dict[str, Any]:
        """The drawing as JSON: places by column, and the edges that the route table lets requests take."""
        topology = self.topology
        columns: list[dict[str, dict[str, Any]]] = [{} for _ in topology.path]
        edges: dict[str, str] = {}
        for caller in self._callers:
            columns[0][caller] = self._place(caller, CALLER, [caller])
            for role in topology.asks:
                asked = self.place(role, caller)
                columns[0].setdefault(asked, {**self._place(asked, role), "asked": True})
                edges[f"{caller}>{asked}"] = "asks"
            path = [caller]
            for column, role in enumerate(topology.between, 1):
                path.append(self.place(role, caller))
                columns[column].setdefault(path[-1], self._place(path[-1], role))
                edges[f"{path[-2]}>{path[-1]}"] = "payload"
            for key in sorted(keys_for(caller, self._table)):
                if cluster := self.cluster_of(key):
                    edges[f"{path[-1]}>{cluster}"] = "payload"
        columns[-1] = {name: self._cluster(name) for name in self._table.document["clusters"]}
        return {
            "name": topology.name,
            "colour": topology.colour,
            "compared_as": topology.compared_as,
            "path": list(topology.path),
            "columns": [list(column.values()) for column in columns],
            "edges": edges,
        }

    def _place(self, name: str, role: str, units: Iterable[str] = ()) -> dict[str, Any]:
        return {"name": name, "role": role, "units": list(units) or self._units_at(name)}

    def _units_at(self, place: str) -> list[str]:
        return [unit.name for unit in self._units if place in (unit.name, unit.role)] or [place]

    def _cluster(self, name: str) -> dict[str, Any]:
        replicas = [unit.name for unit in self._units if unit.role == MODEL and unit.name.rpartition("-")[0] == name]
        versions = [key for key, version in self._table.versions.items() if version.cluster == name]
        return {"name": name, "role": MODEL, "units": replicas or [name], "versions": versions}


def drawable(topologies: Iterable[str]) -> list[Topology]:
    """The topologies of these names that are known here."""
    return [TOPOLOGIES[name] for name in topologies if name in TOPOLOGIES]
