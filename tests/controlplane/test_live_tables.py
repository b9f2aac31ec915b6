"""What live tables need, kept up to date change by change, against the same computed from scratch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lab.routing.document import RouteTable
from lab.routing.edits import sharing
from lab.routing.keys import version_key
from lab.routing.uses import Grant, Uses, grants_of, keys_for
from services.controlplane.publishing.live_tables import LiveTables

CALLERS = ("homepage", "search", "support")
_PLACES = ("x", "y", "z", "xy", "zy", "zyx")  # several letters are shards
_VERSIONS = st.dictionaries(
    st.sampled_from(("a@v1", "a@v2", "b@v1")), st.tuples(st.sampled_from(_PLACES), st.booleans()), min_size=1
)
_USES = st.dictionaries(
    st.sampled_from("ABC"),
    st.tuples(
        st.sets(st.sampled_from(CALLERS[:2]), min_size=1),
        st.sets(st.sampled_from(CALLERS), max_size=1),
        st.integers(0, 9),
        st.integers(0, 9),
    ),
)
_TABLES = st.tuples(_VERSIONS, _USES)


def _table(versions: Mapping[str, tuple[str, bool]], uses: Mapping[str, Any]) -> RouteTable:
    names = sorted(versions)
    models: dict[str, Any] = {}
    for name, (letters, fails_over) in versions.items():
        model, version = name.split("@")
        shards = [f"{cluster}-{'failover' if fails_over else 'alone'}" for cluster in letters]
        where = {"cluster": {"shards": shards} if len(shards) > 1 else shards[0]}
        models.setdefault(model, {"versions": {}})["versions"][version] = where
    use_cases = {}
    for name, (callers, pins, default, fallback) in uses.items():
        use_cases[name] = {
            "callers": sorted(callers),
            "override": sorted(pins),
            "api": "ranking.v1",
            "timeout": "50ms",
            "default": names[default % len(names)],
            "fallback": [names[fallback % len(names)]],
        }
    clusters: dict[str, Any] = {f"{each}-{kind}": {"replicas": 1} for each in "xyz" for kind in ("failover", "alone")}
    for each in "xyz":
        clusters[f"{each}-failover"] = {"replicas": 1, "failover": "x-alone"}
    return RouteTable.of_valid({"use_cases": use_cases, "models": models, "clusters": clusters})


def _held(tables: Iterable[RouteTable]) -> dict[str, set[str]]:
    held: dict[str, set[str]] = {}
    for table in tables:
        for key, version in table.versions.items():
            for cluster in filter(None, (version.cluster, version.failover)):
                held.setdefault(cluster, set()).add(key)
    return held


def _granted(tables: Iterable[RouteTable]) -> dict[str, Grant]:
    """Of all tables together: a version that no use case of any names is for the callers of its model."""
    use_cases = [each for table in tables for each in table.document["use_cases"].values()]
    versions = {key: each for table in tables for key, each in table.versions.items()}
    return {key: Uses(use_cases).grant(each.model, each.version) for key, each in versions.items()}


@given(st.lists(st.tuples(_TABLES, st.integers(0, 4), st.booleans()), min_size=1, max_size=12))
def test_needs_are_those_of_the_live_tables_in_whatever_order_they_came(steps: list[tuple[Any, int, bool]]) -> None:
    live, assigned = LiveTables(), dict[str, frozenset[str]]()
    in_force = [RouteTable.from_document({})]
    for (versions, uses), retired, fails in steps:
        new = sharing(_table(versions, uses), in_force[-1])
        acted_by = [*in_force[-1 - retired : -1], in_force[-1], new]
        live.hold(acted_by)
        for tables in (acted_by, acted_by[:-1]) if fails else (acted_by,):
            live.hold(tables)
            touched, regranted = live.take_changed()
            assigned |= {cluster: live.assignment(cluster).keys for cluster in touched}
            held, granted = _held(tables), _granted(tables)
            assert {cluster: keys for cluster, keys in assigned.items() if keys} == held
            assert live.grants == granted
            assert regranted <= held.keys()
            for cluster in held:
                assert live.needed_in(cluster) == _held(tables[-1:]).get(cluster, set())
            for table in tables:
                for key, grant in grants_of(table).items():
                    assert version_key(key) not in _named(table) or grant.callers <= live.grants[key].callers
            for caller in CALLERS:
                of_each = frozenset().union(*(keys_for(caller, each) for each in tables))
                # One that may use a version by one table may use its shards in all, and one that may pin, all versions.
                assert of_each <= live.keys_for(caller)
                assert {*map(version_key, live.keys_for(caller))} == {*map(version_key, of_each)} or (
                    live.keys_for(caller) == granted.keys()
                )
        if not fails:
            in_force.append(new)


def _named(table: RouteTable) -> set[str]:
    uses = Uses(table.document["use_cases"].values())
    return {key for caller in CALLERS for key in uses.keys_of(caller)}


def test_a_caller_has_the_same_keys_object_until_they_change() -> None:
    live = LiveTables()
    use_case = ({"homepage"}, set[str](), 0, 0)
    before = _table({"a@v1": ("x", False), "b@v1": ("y", False)}, {"A": use_case})
    live.hold([before])
    keys = live.keys_for("homepage")

    after = sharing(_table({"a@v1": ("z", False), "b@v1": ("y", False)}, {"A": use_case}), before)
    live.hold([before, after])
    assert live.take_changed() == ({"x-alone", "y-alone", "z-alone"}, {"x-alone", "y-alone", "z-alone"})
    assert live.keys_for("homepage") is keys

    live.hold([after])
    assert live.take_changed() == ({"x-alone"}, set())
