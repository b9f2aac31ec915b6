"""Shards of a version: the form of their keys, who chooses them, and what moves when they do."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from lab.routing.compiled import Router
from lab.routing.document import RouteTable, Source
from lab.routing.edits import with_models
from lab.routing.explanation import explain
from lab.routing.keys import is_routing_key, routing_key, version_key
from lab.routing.uses import keys_for
from services.controlplane.publishing.in_force import InForce
from services.controlplane.publishing.rules_feed import RulesFeed, whole_update
from services.rules import DecisionCache, RuleSet

CALLER = {"caller": "homepage"}
USERS = [f"u{number}" for number in range(4_000)]
TABLE: dict[str, Any] = {
    "use_cases": {
        "ByUser": {"callers": ["homepage"], "api": "ranking.v1", "default": "users@v1", "retries": {"attempts": 2}},
        "ByTenant": {"callers": ["homepage"], "api": "ranking.v1", "default": "tenants@v1"},
        "Plain": {
            "callers": ["homepage"],
            "api": "ranking.v1",
            "default": "plain@v1",
            "fallback": ["tenants@v1"],
            "shadow": {"use": "tenants@v1", "percent": 100},
        },
    },
    "models": {
        "users": {"versions": {"v1": {"cluster": {"shards": ["a", "b", "c", "d"]}}}},
        "tenants": {"versions": {"v1": {"cluster": {"shards": ["a", "b"], "tenants": {"ads": 1, "default": 2}}}}},
        "plain": {"versions": {"v1": {"cluster": "a"}}},
    },
    "clusters": {name: {"replicas": 1} for name in "abcd"},
}


@pytest.fixture
def table() -> RouteTable:
    return RouteTable.from_document(TABLE)


def router(**models: Any) -> Router:
    return Router.of_document(RouteTable.from_document({**TABLE, "models": {**TABLE["models"], **models}}).document)


def placed(model: str, *clusters: str) -> Source:
    return Source(f"{model}.yaml", f"versions: {{v1: {{cluster: {{shards: [{', '.join(clusters)}]}}}}}}")


def test_a_key_with_a_shard_has_one_form() -> None:
    assert routing_key("rows", "v2", 3) == "rows.v2.s3"
    assert version_key("rows.v2.s3") == version_key("rows.v2") == "rows.v2"
    assert all(map(is_routing_key, ("rows.v2", "rows.v2.s1", "rows.v2.s99")))
    for key in (
        "rows.s1",
        "rows.v2.s0",
        "rows.v2.s01",
        "rows.v2.s100",
        "rows.v2.s",
        "rows.v2.1",
        "rows.v2.s1.s1",
        "r.v2.",
    ):
        assert not is_routing_key(key), key


def test_a_hash_divides_users_equally_and_alike_in_all_models() -> None:
    other = {"versions": {"v7": {"cluster": {"shards": ["d", "c", "b", "a"]}}}}
    use_cases = {**TABLE["use_cases"], "Other": {"callers": ["homepage"], "api": "ranking.v1", "default": "other@v7"}}
    table = {**TABLE, "use_cases": use_cases, "models": {**TABLE["models"], "other": other}}
    found = Router.of_document(RouteTable.from_document(table).document)

    shards: Counter[str] = Counter()
    for user in USERS:
        one, two = (found.resolve(name, {**CALLER, "user_id": user}).routing_key for name in ("ByUser", "Other"))
        assert one.removeprefix("users.v1") == two.removeprefix("other.v7")
        shards[one] += 1

    assert sorted(shards) == ["users.v1.s1", "users.v1.s2", "users.v1.s3", "users.v1.s4"]
    assert all(850 < count < 1_150 for count in shards.values())  # 5 sigma of 1,000 are 137


def test_a_tenant_has_its_shard_and_all_others_that_of_the_default() -> None:
    keys = {
        tenant: router().resolve("ByTenant", {**CALLER, "tenant": tenant}).routing_key
        for tenant in ("ads", "kids", "default", "")
    }
    assert keys == dict.fromkeys(("kids", "default", ""), "tenants.v1.s2") | {"ads": "tenants.v1.s1"}


def test_a_decision_with_a_shard_is_for_requests_of_its_user_or_tenant() -> None:
    reads = {name: router().resolve(name, CALLER).reads for name in TABLE["use_cases"]}
    assert reads == {
        "ByUser": ("override", "user_id"),
        "ByTenant": ("override", "tenant"),
        "Plain": ("override", "tenant"),
    }


def test_fallback_and_shadow_have_the_requests_shard_also_where_decisions_are_kept() -> None:
    decisions = DecisionCache(router(), lambda choice: choice)
    for tenant, shard in (("ads", "s1"), ("kids", "s2"), ("ads", "s1")):
        choice = decisions.look_up("Plain", {**CALLER, "tenant": tenant})
        assert choice.routing_key == "plain.v1"
        assert [each.routing_key for each in choice.alternatives] == [f"tenants.v1.{shard}"]
        assert choice.shadow is not None
        assert choice.shadow.routing_key == f"tenants.v1.{shard}"


def test_an_explanation_names_the_shard() -> None:
    assert explain(router(), "ByTenant", {**CALLER, "tenant": "ads"}).beyond == ("tenant is ads: shard 1 of 2",)


def test_a_move_changes_one_key_and_another_number_of_shards_changes_rules(table: RouteTable) -> None:
    feed = RulesFeed(lambda: 0)
    feed.publish_rules(InForce(1, table))
    moved = with_models(table, {"users": placed("users", "a", "b", "c", "a")})
    feed.publish_rules(InForce(2, moved))
    assert feed.revision == 1
    assert {key for key in moved.versions if moved.versions[key].cluster != table.versions[key].cluster} == {
        "users.v1.s4"
    }

    fewer = with_models(moved, {"users": placed("users", "a", "b")})
    feed.publish_rules(InForce(3, fewer))
    assert feed.revision == 3
    assert "users.v1.s3" not in fewer.versions
    assert keys_for("homepage", fewer) == fewer.versions.keys()

    plain = with_models(fewer, {"users": Source("users.yaml", "versions: {v1: {cluster: a}}")})
    feed.publish_rules(InForce(4, plain))
    assert feed.revision == 4
    assert [key for key in plain.versions if key.startswith("users")] == ["users.v1"]


def test_rules_that_travelled_choose_the_same_shards_and_keep_endpoints_of_shards(table: RouteTable) -> None:
    update = whole_update(1, table)
    update.full = True
    update.endpoints.add(routing_key="users.v1.s2", cluster="b", addresses=["h:1"])
    rules = RuleSet().updated(update)
    del update.endpoints[:]
    restarted = rules.updated(update)

    assert restarted.endpoints == {"users.v1.s2": ("h:1",)}
    assert restarted.clusters["users.v1.s2"] == ("b", "")
    for user in USERS[:100]:
        asked = {**CALLER, "user_id": user, "tenant": user}
        for name in TABLE["use_cases"]:
            assert restarted.router.resolve(name, asked).routing_key == router().resolve(name, asked).routing_key


def test_each_shard_has_the_settings_of_its_version(table: RouteTable) -> None:
    policies = {key: table.agreements.policy(key) for key in table.versions}
    assert {key for key, policy in policies.items() if policy} == {f"users.v1.s{number}" for number in (1, 2, 3, 4)}
