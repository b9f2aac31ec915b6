"""What route tables place on each model cluster, at a cost that grows with what changes and not with the tables."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from services.controlplane.differences import differing
from services.controlplane.membership import Assignment, Version

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lab.routing.document import ModelVersion


class Placements:
    """Cluster → what its replicas are to hold, of the last few mappings of versions that were asked about.

    Clusters that two mappings treat alike have the very same assignment in both.
    """

    _REMEMBERED = 16

    def __init__(self) -> None:
        self._known: list[tuple[Mapping[str, ModelVersion], dict[str, Assignment]]] = [({}, {})]

    def of(self, versions: Mapping[str, ModelVersion]) -> Mapping[str, Assignment]:
        """What a table with these versions places on each cluster."""
        for known, found in self._known:
            if known is versions:
                return found
        before, base = self._known[-1]
        placed = _changed(base, before, versions)
        self._known = [*self._known[1 - self._REMEMBERED :], (versions, placed)]
        return placed


def united(placements: Iterable[Mapping[str, Assignment]]) -> Mapping[str, Assignment]:
    """What clusters are to hold so that each of several tables can be acted by; first come those of the first."""
    first, *others = placements
    result: dict[str, Assignment] = {}
    for placed in others:
        for cluster in differing(placed, first):
            held = {each.routing_key: each for each in (result.get(cluster) or first.get(cluster) or _NOTHING).versions}
            held |= {each.routing_key: each for each in placed[cluster].versions}
            result[cluster] = Assignment(tuple(held.values()))
    return {**first, **result} if result else first


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
