"""What a run was to cover by its plan and tables, and met too little of."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from lab.checkers import FaultWindow, RequestMix, RevisionInForce, Verdict
from lab.checkers.coverage import places_met
from lab.checkers.kinds import answered
from lab.checkers.plain import passed
from tests.checkers.builders import START_NS, STEP_NS, make_evidence, make_record, make_table, obey, two_versions

if TYPE_CHECKING:
    from lab.history import Record

ASKS = RequestMix(
    use_cases=["Rows"],
    caller="homepage",
    users=1_000,
    contexts={"device": ("tv", "phone"), "country": ("DE", "US")},
    traffic_origin="real",
)


def _mixed(table: dict[str, Any], count: int = 600, *, request_mix: RequestMix = ASKS, **always: Any) -> list[Record]:
    """Records of requests that the mix draws, all answered; ``always`` are fields that ignore it."""
    random = Random(1)  # noqa: S311 (not security-relevant)
    return [
        obey(
            table,
            number,
            **{
                "use_case": random.choice(request_mix.use_cases),
                "user_id": f"u{random.randrange(request_mix.users)}",
                **{name: random.choice(values) for name, values in request_mix.contexts.items()},
                **always,
            },
        )
        for number in range(count)
    ]


def _judge(table: dict[str, Any], records: list[Record], **changes: Any) -> Verdict:
    return answered.check(make_evidence(records, **{"table": table, "request_mix": ASKS, **changes}))


def test_a_run_that_met_all_of_its_plan_is_valid() -> None:
    assert _judge(two_versions(), _mixed(two_versions())).outcome == "valid"


def test_a_rule_that_no_request_met_makes_the_run_unknown() -> None:
    verdict = _judge(two_versions(), _mixed(two_versions(), device="phone"))
    assert verdict.outcome == "unknown"
    assert "rule tv of Rows: 0 of 600 requests met it, 30" in verdict.summary
    assert _judge(two_versions(), _mixed(two_versions(), device="phone"), request_mix=None).outcome == "valid"


def test_a_rule_that_too_few_requests_met_makes_the_run_unknown() -> None:
    few = [*_mixed(two_versions(), device="phone")[:550], *_mixed(two_versions(), device="tv")[550:]]
    assert "rule tv of Rows: 50 of 600 requests met it" in _judge(two_versions(), few).summary


def test_a_rule_that_the_plan_never_meets_is_not_asked_for() -> None:
    table = two_versions()
    table["use_cases"]["Rows"]["rules"].insert(0, {"name": "radio", "when": {"device": ["radio"]}, "use": "rows@v1"})
    assert _judge(table, _mixed(table)).outcome == "valid"


def test_a_use_case_that_was_left_out_makes_the_run_unknown() -> None:
    table = two_versions()
    table["use_cases"]["Others"] = table["use_cases"]["Rows"]
    both = replace(ASKS, use_cases=["Rows", "Others"])
    assert _judge(table, _mixed(table, request_mix=both), request_mix=both).outcome == "valid"
    assert (
        "use case Others: 0 of 600"
        in _judge(table, _mixed(table, request_mix=both, use_case="Rows"), request_mix=both).summary
    )


def test_one_user_alone_meets_one_arm_of_a_split() -> None:
    table = make_table({"rows@v1": 50, "rows@v2": 50})
    assert _judge(table, _mixed(table)).outcome == "valid"
    verdict = _judge(table, _mixed(table, user_id="u1"))
    assert verdict.outcome == "unknown"
    assert "by rule canary of Rows: 0 of 600 requests met it" in verdict.summary


def test_both_sides_of_a_negation_are_to_be_met() -> None:
    table = two_versions()
    table["use_cases"]["Rows"]["rules"][0]["when"] = {"device": ["tv"], "not": {"country": ["US"]}}
    assert _judge(table, _mixed(table)).outcome == "valid"
    verdict = _judge(table, [each for each in _mixed(table, 1_200) if (each.device, each.country) != ("tv", "US")])
    assert "negation that excludes in rule tv of Rows: 0 of" in verdict.summary


def test_an_edge_bucket_is_to_be_met_where_the_plan_has_users_on_it() -> None:
    table = make_table({"rows@v1": 50, "rows@v2": 50})
    on_edge = next(
        f"u{number}"
        for number in range(100_000)
        if any(place.startswith("edge bucket") for place in passed(table, "Rows", {**_ASKED, "user_id": f"u{number}"}))
    )
    users = replace(ASKS, contexts={"device": ("phone",), "user_id": ("u1", on_edge)})
    assert _judge(table, _mixed(table, request_mix=users), request_mix=users).outcome == "valid"
    verdict = _judge(table, _mixed(table, request_mix=users, user_id="u1"), request_mix=users)
    assert any("edge bucket" in part for part in verdict.summary.split(";")), verdict.summary


_ASKED = {"caller": "homepage", "device": "phone"}


def test_a_rule_none_of_whose_requests_was_answered_is_not_shown() -> None:
    """A fault explains the failures; nothing shows that the rule works."""
    records = [
        each if each.device == "phone" else make_record(each.sequence, device="tv", status="UNAVAILABLE")
        for each in _mixed(two_versions())
    ]
    marked = [FaultWindow("b killed", "b", START_NS - 1, None)]
    verdict = _judge(two_versions(), records, fault_windows=marked)
    assert verdict.outcome == "unknown"
    assert "rule tv of Rows: none of" in verdict.summary


def test_tables_with_the_same_rules_count_together_and_others_apart() -> None:
    table, moved, changed = two_versions(), two_versions(), two_versions()
    moved["models"]["rows"]["versions"]["v2"]["cluster"] = "a"
    changed["use_cases"]["Rows"]["rules"][0]["name"] = "television"
    middle = START_NS + 300 * STEP_NS - 1
    halves = [*_mixed(table, device="phone")[:300], *_mixed(table, device="tv")[300:]]

    def outcome(second: dict[str, Any]) -> str:
        revisions = [RevisionInForce(1, table, 0, middle, 1), RevisionInForce(2, second, middle, None, middle + 1)]
        return str(_judge(table, halves, revisions=revisions).outcome)

    assert outcome(moved) == "valid"
    assert outcome(changed) == "unknown"


@pytest.mark.parametrize(
    ("sources", "outcome"), [(("fallback",), "valid"), (("model",), "unknown"), (("model", "fallback"), "valid")]
)
def test_a_fallback_is_to_be_taken_while_the_cluster_is_dead(sources: tuple[str, ...], outcome: str) -> None:
    table = two_versions()
    table["use_cases"]["Rows"]["fallback"] = ["rows@v2"]
    records = [make_record(each, source=sources[each % len(sources)]) for each in range(60)]
    killed = FaultWindow("a-0 killed", "a-0", START_NS, None, kills=True)
    assert _judge(table, records, request_mix=None, fault_windows=[killed]).outcome == outcome
    slowed = replace(killed, kills=False)
    assert _judge(table, records, request_mix=None, fault_windows=[slowed]).outcome == "valid"
    table["clusters"]["a"]["replicas"] = 2  # the other one lives
    assert _judge(table, records, request_mix=None, fault_windows=[killed]).outcome == "valid"


def test_a_run_says_what_it_met() -> None:
    table = two_versions()
    table["use_cases"]["Rows"]["rules"][0]["when"]["not"] = {"country": ["US"]}
    records = [
        make_record(0),
        make_record(1, device="tv", version="v2"),
        make_record(2, device="tv", country="US", version="v2", source="fallback"),
        make_record(3, status="UNSENT"),
    ]
    assert places_met(make_evidence(records, table=table)) == {
        "use case Rows": 3,
        "default of Rows": 2,
        "rows@v1 by default of Rows": 2,
        "rule tv of Rows": 1,
        "rows@v2 by rule tv of Rows": 1,
        "condition device that holds in rule tv of Rows": 2,
        "condition device that fails in rule tv of Rows": 1,
        "condition country that holds in the negation in rule tv of Rows": 1,
        "condition country that fails in the negation in rule tv of Rows": 2,
        "negation that excludes in rule tv of Rows": 1,
        "negation that lets pass in rule tv of Rows": 1,
        "fallback to rows@v2 of Rows": 1,
    }


def test_edge_cases_of_the_plan_are_to_be_met() -> None:
    request_mix = replace(ASKS, edge_every=4, edge_cases=[("Rows", {"device": "radio"})])
    table = two_versions()
    table["use_cases"]["Rows"]["rules"].insert(0, {"name": "radio", "when": {"device": ["radio"]}, "use": "rows@v1"})
    drawn = _mixed(table)
    both = [each if request_mix.draws(each) else obey(table, each.sequence, device="radio") for each in drawn]
    assert _judge(table, both, request_mix=request_mix).outcome == "valid"
    assert "rule radio of Rows: 0 of 600" in _judge(table, drawn, request_mix=request_mix).summary
