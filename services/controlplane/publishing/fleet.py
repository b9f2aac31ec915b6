"""All nodes of the lab: derives from a route table what each must hold, and sends it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from lab.routing.document import Grant, callers_of, grants_of, keys_for, policies_of
from services.controlplane.nodes.assignments import Assignment, Placements
from services.controlplane.nodes.membership import Membership
from services.controlplane.nodes.registration_log import RegistrationLog
from services.controlplane.publishing.rules_feed import RulesFeed, Served
from services.controlplane.registry.table_diff import changed_entries
from services.controlplane.xds.resources import endpoint_set_name, split_endpoint_set_name
from services.controlplane.xds.store import ResourceStore

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from lab.routing.document import ModelVersion, RouteTable
    from lab.routing.resilience import Policy


class Placed(NamedTuple):
    """What :meth:`Fleet.place` sent.

    Attributes:
        xds: generation of the xDS update.
        rules: sequence number of the gateways' update.
        has_new: whether some key is not in the previous table. Nodes may still hold its endpoints from an earlier
            table, and no request may use those.
    """

    xds: int
    rules: int
    has_new: bool


class Fleet:
    """Sends every node its part of a route table, and keeps endpoints current in between.

    Args:
        on_replicas: called with the clusters in which a replica came, left, loaded or unloaded something.
        now_ns: the clock, Unix nanoseconds.

    Attributes:
        store: the xDS resources for Envoys and gRPC clients.
        feed: the rules and endpoints for resolvers and gateways.
        membership: the replicas.
    """

    def __init__(self, on_replicas: Callable[[Collection[str]], None], now_ns: Callable[[], int]) -> None:
        self.store = ResourceStore(self._keys_for, now_ns, self._callers)
        self.feed = RulesFeed(now_ns)
        self.membership = Membership(self._endpoints_changed, RegistrationLog(now_ns))
        self._on_replicas = on_replicas
        self._tables: list[RouteTable] = []  # tables that some node may still act by
        # Routing key → its model cluster and failover cluster, as last sent.
        self._placement: dict[str, tuple[str, str]] = {}
        self._placed: Mapping[str, ModelVersion] = {}  # versions of the table placed last
        self._keys_on: dict[str, set[str]] = defaultdict(set)  # model cluster → routing keys placed on it
        self._vacated: set[tuple[str, str]] = set()  # model cluster and key, where a node may send what has moved
        self._retired_sets: set[str] = set()  # endpoint sets of earlier placements, still in use for a while
        # id of a table's use cases → the use cases, which keeps the id valid, and caller → keys.
        self._keys_known: dict[int, tuple[Any, dict[str, frozenset[str]]]] = {}
        self._grants_known: list[tuple[Any, Any, Mapping[str, Grant]]] = []  # of the latest use cases and versions
        self._policies: dict[str, Policy] = {}  # by routing key, as last sent
        self._policies_from: Mapping[str, Any] = {}  # use cases that these policies are of
        self._placements = Placements()
        self._frozen = False

    def assign(
        self, revision: int, table: RouteTable, *, coming: RouteTable | None = None, retiring: Iterable[RouteTable] = ()
    ) -> None:
        """Sends replicas the versions that these tables need them to hold, and for whom.

        Args:
            revision: of the latest table.
            table: in force.
            coming: about to be published.
            retiring: of earlier revisions, which requests may still follow. They load nothing again that was vacated.
        """
        needed, retiring, grants = [table, coming] if coming else [table], list(retiring), dict[str, Grant]()
        for each in (*needed, *retiring):
            for key, grant in self._grants_by(each).items():
                grants[key] = grants.get(key, grant) | grant
        assigned = self._placements.union(each.versions for each in (*needed, *retiring))
        self._vacated = {place for place in self._vacated if retiring and not _has(table, *place)}
        for cluster, key in self._vacated:
            if cluster in assigned and not any(_has(each, cluster, key) for each in needed):
                kept = (each for each in assigned[cluster].versions if each.routing_key != key)
                assigned[cluster] = Assignment(tuple(kept))
        self.membership.assign(revision, assigned, grants)

    def vacated_by(self, table: RouteTable, before: Iterable[RouteTable]) -> Mapping[str, frozenset[str]]:
        """Model cluster → keys that the table has elsewhere, and that an earlier table has there."""
        vacated: dict[str, set[str]] = defaultdict(set)
        for other in before:
            for key in changed_entries(table.versions, other.versions).keys() & other.versions.keys():
                now, then = table.versions[key], other.versions[key]
                for cluster in {then.cluster, then.failover} - {now.cluster, now.failover, ""}:
                    vacated[cluster].add(key)
        return {cluster: frozenset(keys) for cluster, keys in vacated.items()}

    def vacate(self, places: Mapping[str, frozenset[str]]) -> None:
        """Keeps retiring tables from loading these keys in these model clusters, from the next assignment on."""
        self._vacated |= {(cluster, key) for cluster, keys in places.items() for key in keys}

    def needed(self, table: RouteTable) -> Mapping[str, Assignment]:
        """Model cluster → what its replicas must have loaded."""
        return self._placements.of(table.versions)

    def holds(self, table: RouteTable) -> bool:
        """Whether all replicas hold what the table needs, for everybody who may use it."""
        granted, nothing = self.membership.grants, Grant()
        return self.membership.holds(self.needed(table)) and all(
            granted.get(key, nothing).covers(grant) for key, grant in self._grants_by(table).items()
        )

    def _grants_by(self, table: RouteTable) -> Mapping[str, Grant]:
        use_cases = table.document["use_cases"]
        for known, versions, grants in self._grants_known:
            if known is use_cases and versions is table.versions:
                return grants
        grants = grants_of(table)
        self._grants_known = [*self._grants_known[-3:], (use_cases, table.versions, grants)]
        return grants

    def place(self, table: RouteTable) -> Placed:
        """Sends sidecars and gateways the cluster and endpoints of every key that moved.

        Changes to the endpoints of other keys were sent when they happened.
        """
        moved, has_new = self._record_placement(table)
        if table.document["use_cases"] is not self._policies_from:
            policies = policies_of(table)
            moved |= {key for key, _ in policies.items() ^ self._policies.items()} & table.versions.keys()
            self._policies, self._policies_from = policies, table.document["use_cases"]
        self._tables.append(table)
        served = {key: self._served(key) for key in moved}
        placed = {key: self._placement[key] for key in moved}
        xds = self.store.update(
            clusters={key: cluster for key, (cluster, _) in placed.items()},
            policies={key: self._policies[key] for key in moved if key in self._policies},
            failovers={key: failover for key, (_, failover) in placed.items() if failover},
            endpoint_sets={each.name: each.addresses for each in served.values()},
            standby={each.name: each.standby for each in served.values()},
            tenants=table.document.get("tenants", {}),
        )
        return Placed(xds, self.feed.publish_endpoints(served), has_new)

    def _record_placement(self, table: RouteTable) -> tuple[set[str], bool]:
        """Records the table's placement; returns the keys that moved, and whether any is new."""
        moved, has_new = set(), False
        for key in changed_entries(table.versions, self._placed):
            version = table.versions[key]
            place, before = (version.cluster, version.failover), self._placement.get(key)
            if place == before:
                continue
            moved.add(key)
            has_new = has_new or key not in self._placed
            if before is not None:
                self._unplace(key)
            self._placement[key] = place
            self._retired_sets.discard(endpoint_set_name(version.cluster, key))
            for cluster in filter(None, place):
                self._keys_on[cluster].add(key)
        self._placed = table.versions
        return moved, has_new

    def _unplace(self, key: str) -> None:
        place = self._placement.pop(key)
        self._retired_sets.add(endpoint_set_name(place[0], key))
        for cluster in filter(None, place):
            self._keys_on[cluster].discard(key)

    def keep_only(self, tables: Iterable[RouteTable]) -> None:
        """Removes from sidecars and gateways the keys that none of these tables has."""
        self._tables = list(tables)
        newest, *others = self._tables
        gone = {
            key
            for key in self._placement.keys() - newest.versions.keys()
            if not any(key in table.versions for table in others)
        }
        for key in gone:
            self._unplace(key)
        self._placed = (
            {key: version for key, version in self._placed.items() if key not in gone} if gone else self._placed
        )
        kept = {name for name in self._retired_sets if self._is_held(name)}
        removed, self._retired_sets = self._retired_sets - kept, kept
        self.store.update(removed_clusters=gone, removed_endpoint_sets=removed)
        self.feed.publish_endpoints({}, removed=gone)

    def _is_held(self, endpoint_set: str) -> bool:
        cluster, key = split_endpoint_set_name(endpoint_set)
        return any(key in table.versions and table.versions[key].cluster == cluster for table in self._tables)

    def keep_only_routes(self, tables: Iterable[RouteTable]) -> None:
        """As :meth:`keep_only` if no key is gone: callers may need fewer keys than before."""
        self._tables = list(tables)
        self.store.update(removed_clusters=())

    def freeze(self) -> None:
        """Ignores membership from now on: at shutdown, streams end though their replicas live."""
        self._frozen = True

    def _keys_for(self, caller: str) -> set[str]:
        different = {id(keys): keys for table in self._tables for keys in [self._keys_by(table, caller)]}
        return set().union(*different.values())

    def _keys_by(self, table: RouteTable, caller: str) -> frozenset[str]:
        """Keys of a caller: they depend on the use cases, which seldom change, and on versions if it may pin."""
        use_cases = table.document["use_cases"]
        known = self._keys_known.get(id(use_cases))
        if known is None:
            if len(self._keys_known) > len(self._tables):
                self._keys_known.clear()
            known = self._keys_known[id(use_cases)] = (use_cases, {})
        keys = known[1].get(caller)
        if keys is None:
            keys = keys_for(caller, table)
            if not any(caller in use_case.get("override", ()) for use_case in use_cases.values()):
                known[1][caller] = keys
        return keys

    def _callers(self) -> set[str]:
        return {caller for table in self._tables for caller in callers_of(table)}

    def _endpoints_changed(self, clusters: Collection[str]) -> None:
        if self._frozen:
            return
        served = {key: self._served(key) for cluster in clusters for key in self._keys_on.get(cluster, ())}
        self.store.update(
            endpoint_sets={each.name: each.addresses for each in served.values()},
            standby={each.name: each.standby for each in served.values()},
        )
        self.feed.publish_endpoints(served)
        self._on_replicas(clusters)

    def _served(self, key: str) -> Served:
        cluster, failover = self._placement[key]
        standby = self.membership.addresses(failover, key) if failover else ()
        return Served(key, cluster, tuple(self.membership.addresses(cluster, key)), tuple(standby), failover)


def _has(table: RouteTable, cluster: str, key: str) -> bool:
    version = table.versions.get(key)
    return version is not None and cluster in {version.cluster, version.failover}
