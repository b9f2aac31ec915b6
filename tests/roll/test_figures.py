"""What a probe's records say of the new version and of the old: by whom the rules sent a request to."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from lab.checkers import Claim, Outcome, Verdict, Violation
from lab.history import UNSENT, Record
from lab.ops.roll.plan import RollPlan, plan_roll
from lab.ops.roll.probe import figures, objections
from lab.routing.compiled import Router

KIDS = {"name": "kids", "when": {"segment": ["kids"]}, "use": "m@v3"}
SPLIT = {"name": "own", "when": {"device": ["tv"]}, "split": {"unit": "user_id", "weights": {"m@v1": 100}}}
DOCUMENT = {
    "use_cases": {
        "Rows": {
            "callers": ["homepage"],
            "api": "ranking.v1",
            "timeout": "2s",
            "default": "m@v1",
            "rules": [KIDS, SPLIT],
        }
    },
    "models": {"m": {"versions": {version: {"cluster": "c"} for version in ("v1", "v2", "v3")}}},
    "clusters": {"c": {"replicas": 1}},
}


def at(percent: int) -> tuple[Router, RollPlan]:
    plan = plan_roll(DOCUMENT, model="m", to="v2", steps=(50, 100))
    use_cases = plan.use_cases(percent) if percent else DOCUMENT["use_cases"]
    return Router.of_document({**DOCUMENT, "use_cases": use_cases}), plan


def record(number: int, **changes: Any) -> Record:
    values: dict[str, Any] = {field.name: "" for field in fields(Record)}
    values |= {"sequence": number, "payload_bytes": 0, "revision": 1, "served_revision": 1, "attempts": 1, "score": 0.0}
    values |= {"intended_ns": 0, "sent_ns": 0, "done_ns": 1_000_000 * (number + 1), "status": "OK", "source": "model"}
    values |= {"caller": "homepage", "use_case": "Rows", "user_id": f"u{number}"}
    return Record(**{**values, **changes})


def test_every_request_counts_for_the_version_that_the_rules_sent_it_to() -> None:
    seen = figures([record(number) for number in range(1_000)], *at(50))
    new, old = seen.new, seen.old

    assert new.requests + old.requests == 1_000
    assert abs(new.requests - 500) <= 5 * 250**0.5
    assert new.errors == old.errors == 0


def test_failures_and_answers_by_somebody_else_are_errors_of_the_version_chosen() -> None:
    spoiled = [
        record(0, status="INTERNAL", source=""),
        record(1, source="fallback"),
        record(2, source="default"),
        record(3),
        record(4, status=UNSENT, source=""),
    ]

    seen = figures(spoiled, *at(100))

    assert (seen.new.requests, seen.new.errors, seen.old.requests) == (4, 3, 0)
    assert list(seen.new.latencies_ms) == [4.0]


def test_before_the_first_step_all_is_the_old_version() -> None:
    seen = figures([record(number, segment="kids") for number in range(10)], *at(0))

    assert (seen.new.requests, seen.old.requests, seen.old.p99_ms) == (0, 10, 10.0)


def test_what_the_roll_leaves_alone_says_nothing_of_it() -> None:
    seen = figures([record(number, device="tv") for number in range(10)], *at(50))

    assert (seen.new.requests, seen.old.requests, seen.other.requests) == (0, 0, 0)


def test_another_use_case_is_what_the_new_version_is_compared_with() -> None:
    seen = figures([record(number, use_case="Search") for number in range(10)], *at(100))

    assert (seen.new.requests, seen.other.requests, seen.other.p99_ms) == (0, 10, 10.0)


def test_checkers_object_to_all_but_what_conditions_judge() -> None:
    records = [record(number) for number in range(20)]
    router, plan = at(50)
    sides = [figures([each], router, plan) for each in records]
    new = next(number for number, side in enumerate(sides) if side.new.requests)
    old = next(number for number, side in enumerate(sides) if side.old.requests)

    def said(checker: str, claim: Claim, *sequences: int) -> list[str]:
        violations = tuple(Violation(checker, each, "", f"#{each}") for each in sequences)
        verdict = Verdict(checker, Outcome.INVALID, "in short", violations, claim)
        return list(objections([verdict], records, router, plan))

    assert said("answered", Claim.AVAILABILITY, new) == []
    assert said("answered", Claim.AVAILABILITY, new, old) == [f"answered: #{old}"]
    assert said("delivery", Claim.CORRECTNESS, new) == [f"delivery: #{new}"]
    assert said("routing", Claim.CORRECTNESS, new) == []
    assert said("times", Claim.TIMING, new) == []
