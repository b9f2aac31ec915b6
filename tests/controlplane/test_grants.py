"""Replicas learn for whom they hold a model version, before anybody else learns to ask for it."""

from __future__ import annotations

from typing import Any

from lab.routing.document import RouteTable
from lab.routing.uses import Grant, grants_of
from services.controlplane.registry.records import Phase
from tests.controlplane.nodes import ControlPlane
from tests.waiting import eventually

HOME = {"callers": ["homepage"], "api": "ranking.v1", "timeout": "50ms", "default": "cw-ranker@v1"}
PAY = {"callers": ["payments"], "api": "fraud.v1", "timeout": "50ms", "default": "fraud@v1"}


def table(**use_cases: dict[str, Any]) -> RouteTable:
    versions = {version: {"cluster": "ml-cluster-1"} for version in ("v1", "v2", "v3", "v4")}
    return RouteTable.from_document(
        {
            "use_cases": use_cases,
            "models": {"cw-ranker": {"versions": versions}, "fraud": {"versions": {"v1": {"cluster": "ml-cluster-1"}}}},
            "clusters": {"ml-cluster-1": {"replicas": 1}},
        }
    )


def test_a_grant_covers_every_place_in_which_a_use_case_names_a_version() -> None:
    home = {
        **HOME,
        "rules": [{"name": "tv", "when": {"device": ["tv"]}, "use": "cw-ranker@v2"}],
        "fallback": ["cw-ranker@v3"],
        "shadow": {"use": "cw-ranker@v4", "percent": 1},
    }
    ranking = Grant(frozenset({"homepage"}), frozenset({"ranking.v1"}))

    found = grants_of(table(Home=home, Pay=PAY))

    assert found == {
        **dict.fromkeys(("cw-ranker.v1", "cw-ranker.v2", "cw-ranker.v3", "cw-ranker.v4"), ranking),
        "fraud.v1": Grant(frozenset({"payments"}), frozenset({"fraud.v1"})),
    }


def test_a_version_that_no_use_case_names_is_for_the_callers_of_its_model() -> None:
    found = grants_of(table(Home=HOME, Pay=PAY))

    assert found["cw-ranker.v2"] == found["cw-ranker.v1"] == Grant(frozenset({"homepage"}), frozenset({"ranking.v1"}))


def test_a_caller_that_may_pin_requests_may_use_every_version() -> None:
    found = grants_of(table(Home={**HOME, "override": ["support"]}, Pay=PAY))

    assert found["cw-ranker.v4"].callers == {"support", "homepage"}
    assert found["fraud.v1"].callers == {"support", "payments"}


async def test_a_replica_knows_a_new_caller_before_the_rules_and_forgets_it_after_them(
    control_plane: ControlPlane,
) -> None:
    replica = await control_plane.replica("ml-cluster-1", "a")
    resolver = await control_plane.follower("homepage-resolver")

    def callers() -> list[str]:
        return list(replica.granted["cw-ranker.v1"])

    await control_plane.publish(table(Home=HOME))
    assert callers() == ["homepage"]

    knew, seen = len(resolver.updates), list[tuple[list[str], int]]()
    replica.on_assignment = lambda: seen.append((callers(), len(resolver.updates) - knew))
    events = await control_plane.publish(table(Home={**HOME, "callers": ["search"]}))

    assert seen[0] == (["homepage", "search"], 0)
    assert [event.phase for event in events] == [Phase.STORED, Phase.LOADED, Phase.ENDPOINTS, Phase.CONVERGED]
    await eventually("the caller of before is forgotten", lambda: callers() == ["search"])
