from __future__ import annotations

from typing import Any

import pytest

from lab.errors import InputError
from lab.ops.roll.plan import plan_roll
from lab.routing.compiled import Router
from lab.routing.document import RouteTable

USERS = [f"u{number}" for number in range(10_000)]
STEPS = (1, 10, 50, 100)

RULES = [
    {"name": "kids", "when": {"segment": ["kids"]}, "use": "cw-ranker@v3"},
    {"name": "tv", "when": {"device": ["tv"]}, "use": "cw-ranker@v2"},
    {"name": "canary", "when": {"country": ["DE"]}, "split": {"unit": "user_id", "weights": {"cw-ranker@v1": 100}}},
]


def document(rules: list[dict[str, Any]] | None = None, default: str = "cw-ranker@v1") -> dict[str, Any]:
    use_case: dict[str, Any] = {"callers": ["homepage"], "api": "ranking.v1", "timeout": "2s", "default": default}
    other = {**use_case, "default": "rows@v1"}
    if rules is not None:
        use_case["rules"] = rules
    return {
        "use_cases": {"ContinueWatchingRanking": use_case, "HomepageRows": other},
        "models": {
            "cw-ranker": {"versions": {version: {"cluster": "ml-cluster-1"} for version in ("v1", "v2", "v3")}},
            "rows": {"versions": {"v1": {"cluster": "ml-cluster-1"}}},
        },
        "clusters": {"ml-cluster-1": {"replicas": 1}},
    }


def router_at(table: dict[str, Any], percent: int, *, to: str = "v2", use_case: str | None = None) -> Router:
    plan = plan_roll(table, model="cw-ranker", to=to, steps=STEPS, use_case=use_case)
    after = {**table, "use_cases": {**table["use_cases"], **plan.use_cases(percent)}}
    return Router.of_document(RouteTable.from_document(after).document)


def chosen(router: Router, user: str, **context: str) -> str:
    return router.resolve("ContinueWatchingRanking", {"caller": "homepage", "user_id": user, **context}).version


@pytest.mark.parametrize("context", [{}, {"segment": "kids"}], ids=["default", "rule"])
@pytest.mark.parametrize("to", ["v1", "v2"])
def test_each_step_moves_the_users_of_the_new_share_and_nobody_else(context: dict[str, str], to: str) -> None:
    table = document([{**RULES[0], "use": "cw-ranker@v3"}], default="cw-ranker@v3")
    before: set[str] = set()
    for percent in STEPS:
        router = router_at(table, percent, to=to)
        moved = {user for user in USERS if chosen(router, user, **context) == to}
        assert before <= moved, "somebody was given the old version back"
        # Five standard deviations of a binomial share of 10,000 users.
        assert abs(len(moved) / len(USERS) - percent / 100) <= 5 * (percent / 100 * (1 - percent / 100) / 1e4) ** 0.5
        before = moved
    assert before == set(USERS)


def test_the_last_step_is_the_plain_version_with_no_trace_of_the_roll() -> None:
    plan = plan_roll(document(RULES[:2]), model="cw-ranker", to="v2", steps=STEPS)

    after = plan.use_cases(100)["ContinueWatchingRanking"]

    assert after["default"] == "cw-ranker@v2"
    assert [(rule["name"], rule["use"]) for rule in after["rules"]] == [
        ("kids", "cw-ranker@v2"),
        ("tv", "cw-ranker@v2"),
    ]
    assert (
        "rules"
        not in plan_roll(document(), model="cw-ranker", to="v2", steps=STEPS).use_cases(100)["ContinueWatchingRanking"]
    )


def test_requests_without_a_user_go_on_as_before_until_the_last_step() -> None:
    table = document(RULES[:1])
    for percent, kids, others in ((50, "v3", "v1"), (100, "v2", "v2")):
        router = router_at(table, percent)
        assert (chosen(router, "", segment="kids"), chosen(router, "")) == (kids, others)


def test_only_places_of_the_model_are_touched_and_others_splits_are_named() -> None:
    plan = plan_roll(document(RULES), model="cw-ranker", to="v2", steps=STEPS)

    assert list(plan.use_cases(10)) == ["ContinueWatchingRanking"]
    assert [(place.rule, place.old) for place in plan.places] == [("kids", "cw-ranker@v3"), ("default", "cw-ranker@v1")]
    assert plan.left_alone == ("rule canary of ContinueWatchingRanking splits versions itself and stays unchanged",)
    assert RULES[2] in plan.use_cases(10)["ContinueWatchingRanking"]["rules"]
    assert plan.comment(10) == "roll cw-ranker v3,v1→v2 10 %"


def test_a_roll_that_was_cut_off_is_taken_up() -> None:
    table = document()
    begun = plan_roll(table, model="cw-ranker", to="v2", steps=STEPS).use_cases(10)
    left = {**table, "use_cases": {**table["use_cases"], **begun}}

    again = plan_roll(left, model="cw-ranker", to="v2", steps=STEPS)

    assert again.use_cases(50) == plan_roll(table, model="cw-ranker", to="v2", steps=STEPS).use_cases(50)


def test_a_default_that_no_user_reaches_needs_no_split() -> None:
    everybody = {"name": "ab", "split": {"unit": "user_id", "weights": {"cw-ranker@v1": 100}}}
    plan = plan_roll(document([everybody]), model="cw-ranker", to="v2", steps=STEPS)

    assert plan.use_cases(10)["ContinueWatchingRanking"]["rules"] == [everybody]
    assert plan.use_cases(100)["ContinueWatchingRanking"]["default"] == "cw-ranker@v2"


@pytest.mark.parametrize("name", ["r" * 63, "kids"])
def test_names_stay_within_their_bounds(name: str) -> None:
    router_at(document([{**RULES[0], "name": name}]), 10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "nope"}, "model 'nope' is not in the route table; there are cw-ranker, rows"),
        ({"to": "v9"}, "--to: model 'cw-ranker' has no version 'v9'; there are v1, v2, v3"),
        ({"to": "v1"}, "no default and no rule anywhere uses another version of cw-ranker than v1: nothing to roll"),
        ({"use_case": "Nope"}, "--use-case: 'Nope' is not in the route table"),
        ({"use_case": "HomepageRows"}, "no default and no rule in use case HomepageRows uses another version"),
        ({"steps": (10, 10, 100)}, "--steps: 10,10,100 does not rise"),
        ({"steps": (1, 10)}, "--steps: 1,10 does not end in 100"),
        ({"steps": (0, 100)}, "has a step that is not a percentage"),
        ({"steps": ()}, "has a step that is not a percentage"),
    ],
)
def test_what_cannot_be_rolled_is_said_in_one_line(changes: dict[str, Any], message: str) -> None:
    options: dict[str, Any] = {"model": "cw-ranker", "to": "v2", "steps": STEPS, **changes}

    with pytest.raises(InputError) as caught:
        plan_roll(document(), **options)

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_rule_for_named_users_is_split_and_needs_nothing_behind_it() -> None:
    pinned = {"name": "testers", "when": {"user_id": ["u1", "u2"]}, "use": "cw-ranker@v1"}
    table = document([pinned])

    for percent in STEPS:
        router_at(table, percent)  # a rule that could never match would be refused

    rules = plan_roll(table, model="cw-ranker", to="v2", steps=STEPS).use_cases(10)["ContinueWatchingRanking"]["rules"]
    assert [rule["name"] for rule in rules if rule["name"].startswith("testers")] == ["testers"]
