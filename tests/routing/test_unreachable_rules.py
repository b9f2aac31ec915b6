"""Rules that can never match are found, and no others: judged by trying every request that there can be."""

from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.checkers.plain import decide
from lab.routing.unreachable_rules import Steps, unreachable
from tests.routing.generated import VALUES, conditions

FIELDS = ("device", "country", "caller", "traffic_origin")
CALLERS = ["homepage"]
VERSIONS = {f"v{number}": {"cluster": "c"} for number in range(1, 12)}


def table(rules: list[dict[str, Any]], callers: list[str] | None = None) -> dict[str, Any]:
    """Each rule leads to its own version, so that who matched can be told."""
    use_case = {"callers": callers or CALLERS, "api": "ranking.v1", "timeout": "1s", "default": "m@v1", "rules": rules}
    return {"use_cases": {"A": use_case}, "models": {"m": {"versions": VERSIONS}}, "clusters": {}}


@st.composite
def rule_lists(draw: st.DrawFn) -> list[dict[str, Any]]:
    rules = []
    for number in range(draw(st.integers(1, 8))):
        rule: dict[str, Any] = {"name": f"r{number}"}
        if draw(st.integers(0, 5)):
            rule["when"] = draw(conditions(fields=FIELDS))
        use = f"m@v{number + 2}"
        if draw(st.booleans()):
            rule["use"] = use
        else:
            rule["split"] = {"unit": draw(st.sampled_from(FIELDS)), "weights": {use: 100}}
        rules.append(rule)
    return rules


def reachable_by_trying(rules: list[dict[str, Any]]) -> set[int]:
    document = table(rules)
    # One value that no rule names stands for all of those.
    values = [["", "other", *VALUES["device"]], ["", "other", *VALUES["country"]], CALLERS, ["", "real", "artificial"]]
    contexts = (dict(zip(FIELDS, each, strict=True)) for each in product(*values))
    return {int(decide(document, "A", context).version[1:]) - 2 for context in contexts} - {-1}


@settings(max_examples=200, deadline=None)
@given(rule_lists())
def test_just_the_rules_that_no_request_reaches_are_found(rules: list[dict[str, Any]]) -> None:
    found = {each.rule for each in unreachable(table(rules)["use_cases"]["A"], Steps())}
    assert set(range(len(rules))) - reachable_by_trying(rules) == found


def test_the_search_in_a_huge_table_is_bounded() -> None:
    rules = [{"name": f"r{number}", "when": {"user_id": [f"u{number}"]}, "use": "m@v1"} for number in range(20_000)]
    again = rules[0] | {"name": "again"}
    steps = Steps(200_000)
    found = list(unreachable(table([rules[0], again, *rules[1:], again])["use_cases"]["A"], steps))
    assert [each.rule for each in found] == [1]
    assert steps.left < 0


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        (
            [{"name": "a", "when": {"caller": ["homepage"]}, "use": "m@v1"}, {"name": "b", "use": "m@v2"}],
            "can never match, as rule 'a' before it always matches; move it up, or remove it",
        ),
        (
            [
                *({"name": name, "when": {"device": [name]}, "use": "m@v1"} for name in "abcde"),
                {"name": "all", "when": {"device": list("edcba")}, "use": "m@v1"},
            ],
            "can never match, as rules 'a', 'b', 'c' and 2 more before it match all that it would; move it up, or",
        ),
        (
            [
                {"name": "a", "when": {"device": ["a"], "country": ["a"]}, "use": "m@v1"},
                {"name": "b", "when": {"device": ["a"], "not": {"country": ["a"]}}, "use": "m@v1"},
                {"name": "c", "when": {"device": ["a"], "segment": ["s"]}, "use": "m@v1"},
            ],
            "can never match, as rules 'a', 'b' before it match all that it would; move it up, or remove it",
        ),
    ],
)
def test_who_leaves_a_rule_nothing_is_named(rules: list[dict[str, Any]], reason: str) -> None:
    [found] = unreachable(table(rules)["use_cases"]["A"], Steps())
    assert (len(rules) - 1, ()) == (found.rule, found.path)
    assert found.reason.startswith(reason)
