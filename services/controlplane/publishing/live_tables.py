"""The route tables that some node may still act by, and what they need together.

A table that comes or goes costs what it changes, however large the tables are and however many there are: the use cases
and versions that differ are counted, and all others are never looked at.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from lab.routing.difference import difference
from lab.routing.document import ModelVersion, RouteTable
from lab.routing.keys import version_key
from lab.routing.uses import Grant, Uses
from services.controlplane.nodes.assignments import NOTHING, Assignment, Version

T = TypeVar("T")


class _Ended(NamedTuple, Generic[T]):
    """An entry that the latest table has no longer, and the first and last table (by number) that had it."""

    name: str
    entry: T
    first: int
    last: int


class _Section(Generic[T]):
    """The entries of one section in all live tables.

    Args:
        entered: called with an entry that the latest table brings.
        left: called with an entry that no live table has any longer.
    """

    def __init__(self, entered: Callable[[T], None], left: Callable[[T], None]) -> None:
        self._entered, self._left = entered, left
        self._first: dict[str, int] = {}  # name → number of the table that brought the latest table's entry
        self.ended: list[_Ended[T]] = []

    def advance(self, number: int, names: Iterable[str], before: Mapping[str, T], after: Mapping[str, T]) -> None:
        for name in names:
            old, new = before.get(name), after.get(name)
            if old is new:
                continue
            if old is not None:
                self.ended.append(_Ended(name, old, self._first.pop(name), number - 1))
            if new is not None:
                self._first[name] = number
                self._entered(new)

    def keep(self, live: Sequence[int]) -> None:
        """Drops entries that none of the live tables has; their numbers are in ascending order."""
        kept = []
        for each in self.ended:
            place = bisect_left(live, each.first)
            if place < len(live) and live[place] <= each.last:
                kept.append(each)
            else:
                self._left(each.entry)
        self.ended = kept


class LiveTables:
    """The live tables.

    Attributes:
        latest: the table that came last.
        grants: routing key → who may use it, by any of the tables; as of the last :meth:`take_changed`.
    """

    def __init__(self) -> None:
        self.latest = RouteTable.from_document({})
        self.grants: dict[str, Grant] = {}
        self._uses = Uses()
        self._number = 0
        self._numbers: dict[int, tuple[int, RouteTable]] = {}  # id of a table → its number, and itself
        self._use_cases = _Section[Any](self._uses.add, self._uses.remove)
        self._versions = _Section["ModelVersion"](self._place, self._unplace)
        self._held: defaultdict[str, dict[str, Version]] = defaultdict(dict)  # cluster → key → version
        self._places: Counter[tuple[str, str]] = Counter()  # cluster and key → versions that put it there
        self._main_places: Counter[tuple[str, str]] = Counter()  # the same, without failover clusters
        self._clusters: dict[str, set[str]] = {}  # key → clusters that hold it
        self._keys_of_model: defaultdict[str, set[str]] = defaultdict(set)
        self._shards: dict[str, set[str]] = {}  # key without shard → keys of its shards, if it has any
        self._keys_by_caller: dict[str, frozenset[str]] = {}
        self._all_keys: frozenset[str] | None = frozenset()
        self._touched: set[str] = set()  # clusters that hold other keys than when changes were taken last
        self._asked_otherwise: set[str] = set()  # keys whose grant may differ from then
        self._dropped: set[str] = set()  # keys that no live table has

    def __len__(self) -> int:
        return len(self._numbers)

    def hold(self, tables: Sequence[RouteTable]) -> None:
        """Makes these tables the live ones, the last of them the latest."""
        for table in tables:
            if id(table) not in self._numbers or (table is tables[-1] and table is not self.latest):
                self._advance(table)
        self._numbers = {id(table): self._numbers[id(table)] for table in tables}
        numbers = sorted(number for number, _ in self._numbers.values())
        self._use_cases.keep(numbers)
        self._versions.keep(numbers)
        changed = self._uses.take_changed()
        for caller in changed.callers:
            self._keys_by_caller.pop(caller, None)
        self._asked_otherwise |= self.keys_in(changed.keys) | (self._clusters.keys() if changed.pins else set())
        self._asked_otherwise.update(key for model in changed.models for key in self._keys_of_model[model])

    def add(self, table: RouteTable) -> None:
        """Adds a table, which becomes the latest."""
        if table is not self.latest:
            self.hold([*(each for _, each in self._numbers.values() if each is not table), table])

    def _advance(self, table: RouteTable) -> None:
        change, before = difference(self.latest, table), self.latest
        self._number += 1
        self._use_cases.advance(
            self._number, change.use_cases, before.document["use_cases"], table.document["use_cases"]
        )
        self._versions.advance(self._number, change.routing_keys, before.versions, table.versions)
        self._numbers[id(table)] = self._number, table
        self.latest = table

    def _place(self, version: ModelVersion) -> None:
        key = version.routing_key
        if key not in self._clusters:
            self._clusters[key], self._all_keys = set(), None
            self._keys_of_model[version.model].add(key)
            if version.shard:
                self._shards.setdefault(version_key(key), set()).add(key)
            if version_key(key) in self._shards:
                self._keys_by_caller.clear()
            self._asked_otherwise.add(key)
            self._dropped.discard(key)
        self._main_places[version.cluster, key] += 1
        for cluster in _clusters(version):
            self._places[cluster, key] += 1
            if cluster not in self._clusters[key]:
                self._clusters[key].add(cluster)
                self._held[cluster][key] = Version(key, version.model, version.version)
                self._touched.add(cluster)

    def _unplace(self, version: ModelVersion) -> None:
        key = version.routing_key
        _decrement(self._main_places, (version.cluster, key))
        for cluster in _clusters(version):
            if not _decrement(self._places, (cluster, key)):
                self._clusters[key].discard(cluster)
                del self._held[cluster][key]
                self._touched.add(cluster)
        if not self._clusters[key]:
            del self._clusters[key]
            self._all_keys = None
            self._keys_of_model[version.model].discard(key)
            if (shards := self._shards.get(version_key(key))) is not None:
                self._keys_by_caller.clear()
                shards.discard(key)
                if not shards:
                    del self._shards[version_key(key)]
            self._dropped.add(key)

    def take_changed(self) -> tuple[set[str], set[str]]:
        """Clusters that hold other keys than at the last call, and those that hold a key with another grant."""
        regranted = set()
        for key in self._asked_otherwise & self._clusters.keys():
            grant = self._uses.grant(*version_key(key).split("."))
            if self.grants.get(key) != grant:
                self.grants[key] = grant
                regranted |= self._clusters[key]
        for key in self._dropped:
            self.grants.pop(key, None)
        touched, self._touched, self._asked_otherwise = self._touched, set(), set()
        return touched, regranted

    def take_dropped(self) -> set[str]:
        """Routing keys that no live table has any longer, since the last call."""
        dropped, self._dropped = self._dropped, set()
        return dropped

    def assignment(self, cluster: str) -> Assignment:
        """What the replicas of a cluster must hold."""
        held = self._held.get(cluster)
        return Assignment(tuple(held.values())) if held else NOTHING

    def needed_in(self, cluster: str) -> frozenset[str]:
        """Routing keys that the latest table needs a cluster to hold."""
        return frozenset(key for key in self._held.get(cluster, ()) if has(self.latest, cluster, key))

    def has_main_place(self, cluster: str, key: str) -> bool:
        """Whether a live table has a key in a cluster, other than for failover."""
        return (cluster, key) in self._main_places

    def keys_for(self, caller: str) -> frozenset[str]:
        """Routing keys that a caller may use by any live table; the same object until they change."""
        if caller in self._uses.pins:
            if self._all_keys is None:
                self._all_keys = frozenset(self._clusters)
            return self._all_keys
        found = self._keys_by_caller.get(caller)
        if found is None:
            found = self._keys_by_caller[caller] = self.keys_in(self._uses.keys_of(caller))
        return found

    def keys_in(self, names: Iterable[str]) -> frozenset[str]:
        """Routing keys in any live table of some versions, which are given as routing keys without shards."""
        found = frozenset(names)
        sharded = found & self._shards.keys()
        if not sharded:
            return found  # nothing is looked at one by one
        return (found - (sharded - self._clusters.keys())).union(*(self._shards[name] for name in sharded))

    def callers(self) -> frozenset[str]:
        """All callers that some use case of a live table allows."""
        return self._uses.callers

    @property
    def longest_timeout_s(self) -> float:
        """The longest timeout of a use case in any live table, seconds."""
        return self._uses.longest_timeout_s


def has(table: RouteTable, cluster: str, key: str) -> bool:
    """Whether a table has a routing key in a cluster."""
    version = table.versions.get(key)
    return version is not None and cluster in {version.cluster, version.failover}


def _clusters(version: ModelVersion) -> set[str]:
    return {version.cluster, version.failover} - {""}


def _decrement(counter: Counter[tuple[str, str]], place: tuple[str, str]) -> int:
    counter[place] -= 1
    if left := counter[place]:
        return left
    del counter[place]
    return 0
