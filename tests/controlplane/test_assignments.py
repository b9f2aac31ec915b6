"""What clusters are to hold, kept up change by change, against the same made anew each time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.controlplane.nodes.assignments import Placements


@dataclass(frozen=True)
class _Version:
    model: str
    version: str
    cluster: str
    failover: str


_KEYS = st.sampled_from(("a@1", "a@2", "b@1", "c@1"))
_CLUSTERS = st.sampled_from(("x", "y", "z"))
_TABLES = st.dictionaries(_KEYS, st.tuples(_CLUSTERS, st.one_of(st.just(""), _CLUSTERS)))


def _table(places: Mapping[str, tuple[str, str]]) -> Mapping[str, Any]:
    return {key: _Version(key[0], key[2:], *place) for key, place in places.items()}


def _anew(tables: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    held: dict[str, set[str]] = {}
    for table in tables:
        for key, version in table.items():
            for cluster in filter(None, (version.cluster, version.failover)):
                held.setdefault(cluster, set()).add(key)
    return held


@given(st.lists(st.tuples(_TABLES, st.integers(0, 4)), min_size=1, max_size=12))
def test_it_is_what_the_tables_say_however_they_followed_each_other(steps: list[tuple[Any, int]]) -> None:
    placements, tables = Placements(), [_table({})]
    for places, retired in steps:
        new = _table(places)
        alone = placements.of(new)
        assert {cluster: set(each.keys) for cluster, each in alone.items()} == _anew([new])
        # The one in force comes first, then those that are on their way out, then the new one.
        acted_by = [tables[-1], *tables[-1 - retired : -1], new]
        union = placements.union(acted_by)
        assert {cluster: set(each.keys) for cluster, each in union.items()} == _anew(acted_by)
        tables.append(new)


def test_clusters_that_two_tables_treat_alike_have_the_very_same_assignment() -> None:
    placements = Placements()
    before = _table({"a@1": ("x", ""), "b@1": ("y", "")})
    after = {**before, "b@1": _Version("b", "1", "z", "")}
    first = placements.of(before)
    union = placements.union([before, after])
    assert union["x"] is first["x"] is placements.of(after)["x"]
    assert set(union) == {"x", "y", "z"}
