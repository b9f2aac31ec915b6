"""What route tables place on each model cluster, at a cost that grows with what changes and not with the tables."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from services.controlplane.differences import differing
from services.controlplane.membership import Assignment, Version

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lab.routing.document import ModelVersion


class _Known(NamedTuple):
    """What a mapping of versions places.

    Attributes:
        differing: clusters that hold something else than by the mapping before, or nothing.
    """

    versions: Mapping[str, ModelVersion]
    placed: Mapping[str, Assignment]
    differing: frozenset[str]


class Placements:
    """Cluster → what its replicas are to hold, of the last few mappings of versions that were asked about.

    Clusters that two mappings treat alike have the very same assignment in both.
    """

    _REMEMBERED = 32

    def __init__(self) -> None:
        self._known: list[_Known] = [_Known({}, {}, frozenset())]

    def of(self, versions: Mapping[str, ModelVersion]) -> Mapping[str, Assignment]:
        """What a table with these versions places on each cluster."""
        return self._find(versions).placed

    def united(self, tables: Iterable[Mapping[str, ModelVersion]]) -> Mapping[str, Assignment]:
        """What clusters are to hold so that each of several tables can be acted by; first come those of the first."""
        found = [self._find(versions) for versions in tables]
        result = dict(found[0].placed)
        for cluster in self._differing(found):
            held = {one.routing_key: one for each in found for one in each.placed.get(cluster, _NOTHING).versions}
            if held:
                result[cluster] = Assignment(tuple(held.values()))
        return result

    def _differing(self, found: Sequence[_Known]) -> set[str]:
        """Clusters that these may treat differently."""
        places = [place for place, known in enumerate(self._known) if any(known is each for each in found)]
        if len(places) < len({id(each) for each in found}):  # one of them was forgotten meanwhile
            return {cluster for each in found for cluster in each.placed}
        return {cluster for known in self._known[places[0] + 1 : places[-1] + 1] for cluster in known.differing}

    def _find(self, versions: Mapping[str, ModelVersion]) -> _Known:
        for known in self._known:
            if known.versions is versions:
                return known
        before = self._known[-1]
        placed = _changed(before.placed, before.versions, versions)
        clusters = {*differing(placed, before.placed), *(before.placed.keys() - placed.keys())}
        self._known = [*self._known[1 - self._REMEMBERED :], _Known(versions, placed, frozenset(clusters))]
        return self._known[-1]


_NOTHING = Assignment(())


def _changed(
    base: Mapping[str, Assignment], before: Mapping[str, ModelVersion], after: Mapping[str, ModelVersion]
) -> dict[str, Assignment]:
    """The placements of ``after``, where ``base`` are those of ``before``."""
    gone: dict[str, set[str]] = defaultdict(set)
    come: dict[str, dict[str, Version]] = defaultdict(dict)
    for key in [*differing(after, before), *(before.keys() - after.keys())]:
        if key in before:
            for cluster in _clusters(before[key]):
                gone[cluster].add(key)
        if key in after:
            for cluster in _clusters(after[key]):
                come[cluster][key] = Version(key, after[key].model, after[key].version)
    result = dict(base)
    for cluster in gone.keys() | come.keys():
        held = {each.routing_key: each for each in base.get(cluster, _NOTHING).versions}
        for key in gone.get(cluster, ()):
            del held[key]
        held |= come.get(cluster, {})
        if held:
            result[cluster] = Assignment(tuple(held.values()))
        else:
            result.pop(cluster, None)
    return result


def _clusters(version: ModelVersion) -> Iterable[str]:
    return filter(None, {version.cluster, version.failover})
