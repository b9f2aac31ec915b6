"""Which model versions each cluster must hold. The cost of an update grows with the change, not with the table."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from services.controlplane.registry.table_diff import changed_entries

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lab.routing.document import ModelVersion


@dataclass(frozen=True, slots=True)
class Version:
    """A model version that a replica must hold."""

    routing_key: str
    model: str
    version: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """The model versions that every replica of a cluster must hold."""

    versions: tuple[Version, ...]
    keys: frozenset[str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", frozenset(each.routing_key for each in self.versions))


NOTHING = Assignment(())


class _KnownTable(NamedTuple):
    """A mapping of versions, as its difference from the mapping before it.

    Attributes:
        differing: cluster → its assignment under the mapping before, for clusters whose assignment changed.
    """

    versions: Mapping[str, ModelVersion]
    differing: Mapping[str, Assignment]


class Placements:
    """Cluster → assignment, for every mapping of versions that some node may still act by.

    If two mappings assign the same to a cluster, both return the same object.
    """

    def __init__(self) -> None:
        self._known = [_KnownTable({}, {})]  # in the order in which they were first asked for
        self._latest: dict[str, Assignment] = {}  # assignments under the last of them

    def of(self, versions: Mapping[str, ModelVersion]) -> Mapping[str, Assignment]:
        """Cluster → assignment under a table with these versions."""
        place = self._find(versions)
        if place == len(self._known) - 1:
            return self._latest
        return _without_empty(self._latest, {each: self._held(each, place)[0] for each in self._differing_since(place)})

    def union(self, tables: Iterable[Mapping[str, ModelVersion]]) -> dict[str, Assignment]:
        """Cluster → assignment that satisfies each of several tables; versions of the first table come first.

        Tables that were known before all of these are forgotten: no node acts by them any longer.
        """
        places = [self._find(versions) for versions in tables]
        oldest = min(places)
        together = {}
        for cluster in self._differing_since(oldest):
            held = self._held(cluster, oldest)
            together[cluster] = _union(held[place - oldest] for place in places)
        self._known = [_KnownTable(self._known[oldest].versions, {}), *self._known[oldest + 1 :]]
        return _without_empty(self._latest, together)

    def _differing_since(self, place: int) -> set[str]:
        """Clusters whose assignment differs in some later mapping."""
        return {cluster for known in self._known[place + 1 :] for cluster in known.differing}

    def _held(self, cluster: str, since: int) -> list[Assignment]:
        """The cluster's assignment under each mapping from that place on."""
        held = [self._latest.get(cluster, NOTHING)]
        for known in reversed(self._known[since + 1 :]):
            held.append(known.differing.get(cluster, held[-1]))
        return held[::-1]

    def _find(self, versions: Mapping[str, ModelVersion]) -> int:
        """The place of these versions among the known mappings; adds them if they are new."""
        for place, known in enumerate(self._known):
            if known.versions is versions or not (known.versions or versions):  # all empty tables are equal
                return place
        before = self._latest
        changed = _changed(before, self._known[-1].versions, versions)
        self._latest = _without_empty(before, changed)
        self._known.append(_KnownTable(versions, {cluster: before.get(cluster, NOTHING) for cluster in changed}))
        return len(self._known) - 1


def _changed(
    base: Mapping[str, Assignment], before: Mapping[str, ModelVersion], after: Mapping[str, ModelVersion]
) -> dict[str, Assignment]:
    """Assignments that differ between ``before`` and ``after``; ``base`` are the assignments under ``before``."""
    gone: dict[str, set[str]] = defaultdict(set)
    come: dict[str, dict[str, Version]] = defaultdict(dict)
    for key in [*changed_entries(after, before), *(before.keys() - after.keys())]:
        if key in before:
            for cluster in _clusters(before[key]):
                gone[cluster].add(key)
        if key in after:
            for cluster in _clusters(after[key]):
                come[cluster][key] = Version(key, after[key].model, after[key].version)
    result = {}
    for cluster in gone.keys() | come.keys():
        held = {each.routing_key: each for each in base.get(cluster, NOTHING).versions}
        for key in gone.get(cluster, ()):
            del held[key]
        assignment = Assignment(tuple((held | come.get(cluster, {})).values()))
        if assignment != base.get(cluster, NOTHING):
            result[cluster] = assignment
    return result


def _union(assignments: Iterable[Assignment]) -> Assignment:
    different = {id(each): each for each in assignments if each.versions}
    if len(different) == 1:
        return next(iter(different.values()))
    return Assignment(tuple({one.routing_key: one for each in different.values() for one in each.versions}.values()))


def _without_empty(base: Mapping[str, Assignment], changed: Mapping[str, Assignment]) -> dict[str, Assignment]:
    """The base updated by the changes, without clusters that hold nothing."""
    result = {**base, **changed}
    for cluster, assignment in changed.items():
        if not assignment.versions:
            del result[cluster]
    return result


def _clusters(version: ModelVersion) -> Iterable[str]:
    return filter(None, {version.cluster, version.failover})
