"""All nodes of the lab: derives from a route table what each must hold, and sends it."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, NamedTuple

from lab.routing.difference import difference
from lab.routing.document import RouteTable
from lab.routing.uses import keys_named
from services.controlplane.nodes.assignments import Assignment
from services.controlplane.nodes.membership import Membership
from services.controlplane.nodes.registration_log import RegistrationLog
from services.controlplane.publishing.live_tables import LiveTables, has
from services.controlplane.publishing.rules_feed import BESIDE_CALLER, RESOLVER, RulesFeed, Served, caller_beside
from services.controlplane.xds.resources import endpoint_set_name, split_endpoint_set_name
from services.controlplane.xds.store import ResourceStore

if TYPE_CHECKING:
    from lab.routing.resilience import Policy
    from services.controlplane.nodes.subscribers import Subscriber, Subscribers
    from services.controlplane.publishing.in_force import InForce


log = logging.getLogger(__name__)

GATEWAY = "gateway"


def can_be_suspended(node: Subscriber) -> bool:
    """Whether models can tell the requests that it decides: a gateway, or the resolver beside one caller."""
    return node.role == GATEWAY or bool(caller_beside(node.node, node.role))


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
        live: the tables that some node may still act by.
        store: the xDS resources for Envoys and gRPC clients.
        feed: the rules and endpoints for resolvers and gateways.
        membership: the replicas.
    """

    def __init__(self, on_replicas: Callable[[Collection[str]], None], now_ns: Callable[[], int]) -> None:
        self.live = LiveTables()
        self.store = ResourceStore(self.live.keys_for, now_ns, self.live.callers)
        self.feed = RulesFeed(now_ns)
        self.membership = Membership(self._endpoints_changed, RegistrationLog(now_ns), self.live.grants)
        self._on_replicas = on_replicas
        # Routing key → its model cluster and failover cluster, as last sent.
        self._placement: dict[str, tuple[str, str]] = {}
        self._placed: Sequence[RouteTable] = [RouteTable.from_document({})]  # the tables placed last
        self._keys_on: dict[str, set[str]] = defaultdict(set)  # model cluster → routing keys placed on it
        self._vacated: set[tuple[str, str]] = set()  # model cluster and key, where a node may send what has moved
        self._retired_sets: set[str] = set()  # endpoint sets of earlier placements, still in use for a while
        self._policies: dict[str, Policy] = {}  # by routing key, as last sent
        self._frozen = False
        self._suspended: dict[str, tuple[str, int]] = {}  # node → its role, and the generation that ends it

    def assign(self, revision: int, needed: Sequence[RouteTable], *, retiring: Sequence[RouteTable] = ()) -> bool:
        """Sends replicas the versions that these tables need them to hold, and for whom.

        Args:
            revision: of the latest table.
            needed: in force, or about to be published; the latest last.
            retiring: of earlier revisions, which requests may still follow. They load nothing again that was vacated.

        Returns:
            Whether there was anything to send.
        """
        self.live.hold([*retiring, *needed])
        touched, regranted = self.live.take_changed()
        latest = needed[-1]
        vacated = {place for place in self._vacated if retiring and not has(latest, *place)}
        touched.update(cluster for cluster, _ in self._vacated | vacated)
        self._vacated = vacated
        assignments = {cluster: self.live.assignment(cluster) for cluster in touched | regranted}
        for cluster, key in vacated:
            if not any(has(each, cluster, key) for each in needed):
                kept = (each for each in assignments[cluster].versions if each.routing_key != key)
                assignments[cluster] = Assignment(tuple(kept))
        return self.membership.assign(revision, assignments, regranted)

    def vacated_by(self, table: RouteTable, before: Iterable[RouteTable]) -> Mapping[str, frozenset[str]]:
        """Model cluster → keys that the table has elsewhere, and that an earlier table has there."""
        vacated: dict[str, set[str]] = defaultdict(set)
        for other in before:
            for key in difference(other, table).routing_keys & table.versions.keys() & other.versions.keys():
                now, then = table.versions[key], other.versions[key]
                for cluster in {then.cluster, then.failover} - {now.cluster, now.failover, ""}:
                    vacated[cluster].add(key)
        return {cluster: frozenset(keys) for cluster, keys in vacated.items()}

    def vacate(self, places: Mapping[str, frozenset[str]]) -> None:
        """Keeps retiring tables from loading these keys in these model clusters, from the next assignment on."""
        self._vacated |= {(cluster, key) for cluster, keys in places.items() for key in keys}

    def suspend(self, nodes: Iterable[tuple[str, str]], generation: int) -> list[str]:
        """Has models refuse what these nodes decide until :meth:`resumed`; returns those that are new.

        Args:
            nodes: role and name of each.
            generation: of the rules that each must have applied by then, as must those suspended before.
        """
        before = self._suspended
        self._suspended = {node: (role, generation) for node, (role, _) in before.items()}
        self._suspended |= {node: (role, generation) for role, node in nodes}
        if new := sorted(self._suspended.keys() - before.keys()):
            log.warning("suspended: %s", ", ".join(new))
            self._tell_suspended()
        return new

    async def resumed(self, node: str) -> None:
        """Returns once a suspended node has caught up, and ends its suspension."""
        waited_for = -1
        while (generation := self._suspended[node][1]) > waited_for:
            await self.routers.has(node, generation)
            waited_for = generation
        del self._suspended[node]
        self._tell_suspended()
        log.info("%s is no longer suspended", node)

    def _tell_suspended(self) -> None:
        resolvers, gateways = (
            {node for node, (its, _) in self._suspended.items() if its == role} for role in (RESOLVER, GATEWAY)
        )
        self.membership.suspend({node.removesuffix(BESIDE_CALLER) for node in resolvers}, gateways)

    @property
    def sidecars(self) -> Subscribers:
        """The connected Envoys and gRPC clients, which follow the store."""
        return self.store.subscribers

    @property
    def routers(self) -> Subscribers:
        """The connected resolvers, gateways and renderers, which follow the feed."""
        return self.feed.subscribers

    @property
    def latest_seen(self) -> int:
        """The latest revision that a router came with while there was none here."""
        return self.feed.latest_seen

    def publish_rules(self, published: InForce) -> int:
        """Sends routers the changed rules; see :meth:`RulesFeed.publish_rules`."""
        return self.feed.publish_rules(published)

    def serving_several(self) -> list[str]:
        """Resolvers that decide for more than one caller, by one set of rules."""
        routers = (*self.routers, *self.routers.gone.values())
        return [each.title for each in routers if each.role == RESOLVER and not caller_beside(each.node, each.role)]

    def unready(self) -> Mapping[str, frozenset[str]]:
        """Model cluster → routing keys that the latest table needs there and that may not be loaded yet."""
        return self.membership.unready(self.live.needed_in)

    def place(self, tables: Sequence[RouteTable]) -> Placed:
        """Sends sidecars and gateways the cluster and endpoints of every key that moved.

        Changes to the endpoints of other keys were sent when they happened.

        Args:
            tables: that are to be in force, the latest last; they have no key in different places.
        """
        table = tables[-1]
        self.live.add(table)
        change = reduce(or_, (difference(each, table) for each in (*self._placed, *tables[:-1])))
        moved, has_new = self._record_placement(table, change.routing_keys)
        stated = self._record_policies(tables, change.use_cases, change.routing_keys)
        moved |= {key for key in stated if any(key in each.versions for each in tables)}
        self._placed = tables
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

    def _record_placement(self, table: RouteTable, keys: Iterable[str]) -> tuple[set[str], bool]:
        """Records where the table has these keys; returns those that moved, and whether any is new."""
        moved, has_new = set(), False
        for key in keys:
            version = table.versions.get(key)
            if version is None:
                continue
            place, before = (version.cluster, version.failover), self._placement.get(key)
            if place == before:
                continue
            moved.add(key)
            has_new = has_new or key not in self._placed[-1].versions
            if before is not None:
                self._unplace(key)
            self._placement[key] = place
            self._retired_sets.discard(endpoint_set_name(version.cluster, key))
            for cluster in filter(None, place):
                self._keys_on[cluster].add(key)
        return moved, has_new

    def _record_policies(self, tables: Sequence[RouteTable], use_cases: Iterable[str], keys: Iterable[str]) -> set[str]:
        """Records the policies of these keys and of those that these use cases name; returns those with another one."""
        known = [each.document["use_cases"] for each in (*self._placed, *tables)]
        documents = [each for name in use_cases for its in known if (each := its.get(name)) is not None]
        changed = set()
        for key in self.live.keys_in({name for each in documents for name in keys_named(each)}).union(keys):
            policy = next(filter(None, (table.agreements.policy(key) for table in tables)), None)
            if policy != self._policies.get(key):
                changed.add(key)
                if policy is None:
                    del self._policies[key]
                else:
                    self._policies[key] = policy
        return changed

    def _unplace(self, key: str) -> None:
        place = self._placement.pop(key)
        self._retired_sets.add(endpoint_set_name(place[0], key))
        for cluster in filter(None, place):
            self._keys_on[cluster].discard(key)

    def keep_only(self, tables: Sequence[RouteTable]) -> None:
        """Removes from sidecars and gateways the keys that none of these tables has; the last is in force."""
        self.live.hold(tables)
        gone = self.live.take_dropped() & self._placement.keys()
        for key in gone:
            self._unplace(key)
        kept = {name for name in self._retired_sets if self.live.has_main_place(*split_endpoint_set_name(name))}
        removed, self._retired_sets = self._retired_sets - kept, kept
        self.store.update(removed_clusters=gone, removed_endpoint_sets=removed)
        self.feed.publish_endpoints({}, removed=gone)

    def freeze(self) -> None:
        """Ignores membership from now on: at shutdown, streams end though their replicas live."""
        self._frozen = True

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
