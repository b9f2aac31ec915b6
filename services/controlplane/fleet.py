"""Everybody who is told something: replicas what to load, sidecars and gateways where it is, and who routes by what."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from lab.routing.callers import callers_of, keys_for, policies_of
from services.controlplane.membership import Membership, Version
from services.controlplane.rules import RulesFeed, Served
from services.controlplane.xds.resources import endpoint_set_name
from services.controlplane.xds.store import ResourceStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from lab.routing.document import ModelVersion, RouteTable
    from lab.routing.resilience import Policy


class Fleet:
    """Tells everybody what a table means for them, and keeps endpoints up to date in between.

    Args:
        on_replicas: called when a replica has come, gone, loaded or unloaded something.
        now_ns: the clock, Unix nanoseconds.

    Attributes:
        store: what Envoys and gRPC clients are told.
        feed: what resolvers and gateways are told.
        membership: the replicas.
    """

    def __init__(self, on_replicas: Callable[[], None], now_ns: Callable[[], int]) -> None:
        self.store = ResourceStore(self._keys_for, now_ns, self._callers)
        self.feed = RulesFeed(now_ns)
        self.membership = Membership(self._endpoints_changed)
        self._on_replicas = on_replicas
        self._tables: list[RouteTable] = []  # that somebody may act by
        # Routing key → model cluster and that which stands in for it, as nodes are told.
        self._placement: dict[str, tuple[str, str]] = {}
        self._policies: dict[str, Policy] = {}  # likewise, of keys that have one
        self._needed: tuple[Mapping[str, ModelVersion], dict[str, frozenset[str]]] = ({}, {})
        self._frozen = False

    def assign(self, revision: int, tables: Iterable[RouteTable]) -> None:
        """Tells replicas to hold what these tables place on them."""
        versions: dict[str, dict[str, Version]] = defaultdict(dict)
        for models in {id(table.versions): table.versions for table in tables}.values():
            for key, version in models.items():
                for cluster in filter(None, (version.cluster, version.failover)):
                    versions[cluster][key] = Version(key, version.model, version.version)
        self.membership.assign(revision, {cluster: list(held.values()) for cluster, held in versions.items()})

    def needed(self, table: RouteTable) -> Mapping[str, frozenset[str]]:
        """Model cluster → routing keys that its replicas must have loaded."""
        known_for, needed = self._needed
        if known_for is not table.versions:
            keys: dict[str, set[str]] = defaultdict(set)
            for key, version in table.versions.items():
                for cluster in filter(None, (version.cluster, version.failover)):
                    keys[cluster].add(key)
            needed = {cluster: frozenset(each) for cluster, each in keys.items()}
            self._needed = (table.versions, needed)
        return needed

    def place(self, table: RouteTable) -> tuple[int, int]:
        """Tells sidecars and gateways where the table's keys are; returns both streams' generations.

        Of keys that stay where they are nothing is to be told: whatever changes there is told at once.
        """
        policies = policies_of(table)
        treated_anew = policies.items() ^ self._policies.items()
        changed = {key for key, _ in treated_anew}
        moved = {
            key: place
            for key, version in table.versions.items()
            if self._placement.get(key) != (place := (version.cluster, version.failover)) or key in changed
        }
        self._placement.update(moved)
        self._policies = policies
        self._tables.append(table)
        served = {key: self._served(key) for key in moved}
        return (
            self.store.update(
                clusters={key: cluster for key, (cluster, _) in moved.items()},
                policies={key: policies[key] for key in moved if key in policies},
                failovers={key: failover for key, (_, failover) in moved.items() if failover},
                endpoint_sets={each.name: each.addresses for each in served.values()},
                standby={each.name: each.standby for each in served.values()},
                tenants=table.document.get("tenants", {}),
            ),
            self.feed.publish_endpoints(served),
        )

    def keep_only(self, tables: Iterable[RouteTable]) -> None:
        """Tells sidecars and gateways that what none of these tables names is nowhere any longer."""
        wanted: set[str] = set()
        held: set[str] = set()
        self._tables = list(tables)
        for table in self._tables:
            wanted |= table.versions.keys()
            held |= {endpoint_set_name(version.cluster, key) for key, version in table.versions.items()}
        gone = [key for key in self._placement if key not in wanted]
        for key in gone:
            del self._placement[key]
        self.store.update(
            removed_clusters=gone,
            removed_endpoint_sets=[name for name in self.store.endpoint_sets if name not in held],
        )
        self.feed.publish_endpoints({}, removed=gone)

    def keep_only_routes(self, tables: Iterable[RouteTable]) -> None:
        """As :meth:`keep_only`, where all that the tables name stays: callers may need fewer keys than before."""
        self._tables = list(tables)
        self.store.update(removed_clusters=())

    def freeze(self) -> None:
        """The control plane is about to end: that its streams end says nothing about the replicas behind them."""
        self._frozen = True

    def _keys_for(self, caller: str) -> set[str]:
        return {key for table in self._tables for key in keys_for(caller, table)}

    def _callers(self) -> set[str]:
        return {caller for table in self._tables for caller in callers_of(table)}

    def _endpoints_changed(self, cluster: str) -> None:
        if self._frozen:
            return
        served = {key: self._served(key) for key, placed in self._placement.items() if cluster in placed}
        self.store.update(
            endpoint_sets={each.name: each.addresses for each in served.values()},
            standby={each.name: each.standby for each in served.values()},
        )
        self.feed.publish_endpoints(served)
        self._on_replicas()

    def _served(self, key: str) -> Served:
        cluster, failover = self._placement[key]
        standby = self.membership.addresses(failover, key) if failover else ()
        return Served(key, cluster, tuple(self.membership.addresses(cluster, key)), tuple(standby), failover)
