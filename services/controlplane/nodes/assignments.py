"""What route tables place on each model cluster, at a cost that grows with what changes and not with the tables."""

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
    """A model version to hold."""

    routing_key: str
    model: str
    version: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the replicas of a cluster are to hold."""

    versions: tuple[Version, ...]
    keys: frozenset[str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", frozenset(each.routing_key for each in self.versions))


class _KnownTable(NamedTuple):
    """What a mapping of versions places, told by what differs from the mapping before.

    Attributes:
        differing: cluster → what it held by the mapping before, for those that hold something else, or nothing.
    """

    versions: Mapping[str, ModelVersion]
    differing: Mapping[str, Assignment]


class Placements:
    """Cluster → what its replicas are to hold, of mappings of versions that somebody may act by.

    Clusters that two mappings treat alike have the very same assignment in both.
    """

    def __init__(self) -> None:
        self._known = [_KnownTable({}, {})]  # in the order in which they were asked about
        self._latest: dict[str, Assignment] = {}  # what the last of them places

    def of(self, versions: Mapping[str, ModelVersion]) -> Mapping[str, Assignment]:
        """What a table with these versions places on each cluster."""
        place = self._find(versions)
        if place == len(self._known) - 1:
            return self._latest
        return _without_empty(self._latest, {each: self._held(each, place)[0] for each in self._differing_since(place)})

    def united(self, tables: Iterable[Mapping[str, ModelVersion]]) -> Mapping[str, Assignment]:
        """What clusters are to hold so that each of several tables can be acted by; first come those of the first.

        Nobody acts by tables that were known before all of these: they are forgotten.
        """
        places = [self._find(versions) for versions in tables]
        oldest = min(places)
        together = {}
        for cluster in self._differing_since(oldest):
            held = self._held(cluster, oldest)
            together[cluster] = _together(held[place - oldest] for place in places)
        self._known = [_KnownTable(self._known[oldest].versions, {}), *self._known[oldest + 1 :]]
        return _without_empty(self._latest, together)

    def _differing_since(self, place: int) -> set[str]:
        """Clusters that some later mapping treats differently."""
        return {cluster for known in self._known[place + 1 :] for cluster in known.differing}

    def _held(self, cluster: str, since: int) -> list[Assignment]:
        """What each of the mappings from that place on has on a cluster."""
        held = [self._latest.get(cluster, _NOTHING)]
        for known in reversed(self._known[since + 1 :]):
            held.append(known.differing.get(cluster, held[-1]))
        return held[::-1]

    def _find(self, versions: Mapping[str, ModelVersion]) -> int:
        """Where these are among those known; they are now, if they were not."""
        for place, known in enumerate(self._known):
            if known.versions is versions or not (known.versions or versions):  # an empty table is like the other
                return place
        before = self._latest
        changed = _changed(before, self._known[-1].versions, versions)
        self._latest = _without_empty(before, changed)
        self._known.append(_KnownTable(versions, {cluster: before.get(cluster, _NOTHING) for cluster in changed}))
        return len(self._known) - 1


_NOTHING = Assignment(())


def _changed(
    base: Mapping[str, Assignment], before: Mapping[str, ModelVersion], after: Mapping[str, ModelVersion]
) -> dict[str, Assignment]:
    """What ``after`` places where it differs from ``before``, the placements of which are ``base``."""
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
        held = {each.routing_key: each for each in base.get(cluster, _NOTHING).versions}
        for key in gone.get(cluster, ()):
            del held[key]
        assignment = Assignment(tuple((held | come.get(cluster, {})).values()))
        if assignment != base.get(cluster, _NOTHING):
            result[cluster] = assignment
    return result


def _together(assignments: Iterable[Assignment]) -> Assignment:
    different = {id(each): each for each in assignments if each.versions}
    if len(different) == 1:
        return next(iter(different.values()))
    return Assignment(tuple({one.routing_key: one for each in different.values() for one in each.versions}.values()))


def _without_empty(base: Mapping[str, Assignment], changed: Mapping[str, Assignment]) -> dict[str, Assignment]:
    """The base with what is changed, but for clusters that hold nothing."""
    result = {**base, **changed}
    for cluster, assignment in changed.items():
        if not assignment.versions:
            del result[cluster]
    return result


def _clusters(version: ModelVersion) -> Iterable[str]:
    return filter(None, {version.cluster, version.failover})
