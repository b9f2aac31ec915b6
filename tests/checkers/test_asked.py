from __future__ import annotations

from typing import Any

import pytest

from lab.checkers import Evidence
from lab.checkers.kinds import asked
from lab.checkers.plain_schedule import ANY, ONE_OF_THE_USERS, PlannedRequest, PlannedRun
from tests.checkers.builders import STEP_NS, make_evidence, make_record, planned_of

N = 10


def _evidence(requests: list[PlannedRequest], **changes: Any) -> Evidence:
    records = [make_record(number) for number in range(N - 1)]
    records.append(make_record(N - 1, **changes))
    return make_evidence(records, plan=PlannedRun(requests, "constant", 1e9 / STEP_NS, N * STEP_NS))


PLAN = list(planned_of([make_record(number) for number in range(N)]).requests)


def test_what_was_planned_is_valid_whenever_it_began() -> None:
    later = [each._replace(offset_ns=each.offset_ns + 7) for each in PLAN]
    assert [asked.check(_evidence(plan)) for plan in (PLAN, later)] == [asked.check(_evidence(PLAN))] * 2
    verdict = asked.check(_evidence(PLAN))
    assert verdict
    assert (verdict.outcome, verdict.summary) == (
        "valid",
        "10 requests compared with the plan: when they were due, and what they asked",
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"user_id": "u0"}, "user_id 'u0', planned 'u9'"),
        ({"device": "tv", "country": "de"}, "device 'tv', planned 'phone', country 'de', planned 'DE'"),
        ({"use_case": "Other"}, "use_case 'Other', planned 'Rows'"),
        ({"payload_bytes": 90}, "payload_bytes 90, planned 402"),
        ({"override": "rows@v2"}, "override 'rows@v2', planned ''"),
        ({"streamed": 1}, "streamed 1, planned 0"),
        ({"tenant": "batch"}, "tenant 'batch', planned ''"),
        ({"traffic_origin": "artificial"}, "traffic_origin 'artificial', planned 'real'"),
        ({"intended_ns": make_record(N - 1).sent_ns}, "its intended time is +0.010 ms off the planned one"),
    ],
)
def test_anything_else_is_invalid(changes: dict[str, Any], message: str) -> None:
    verdict = asked.check(_evidence(PLAN, **changes))
    assert verdict
    assert (verdict.outcome, [(each.sequence, each.message) for each in verdict.violations]) == (
        "invalid",
        [(N - 1, message)],
    )


def test_a_payload_of_an_unknown_api_is_not_compared() -> None:
    plan = [each._replace(payload_bytes=0) for each in PLAN]
    verdict = asked.check(_evidence(plan))
    assert verdict
    assert verdict.outcome == "valid"


def test_what_an_engine_decides_is_not_compared() -> None:
    plan = [each._replace(device=ANY) for each in PLAN]
    tv, germany = (asked.check(_evidence(plan, **changes)) for changes in ({"device": "tv"}, {"country": "de"}))
    assert tv
    assert germany
    assert (tv.outcome, [each.message for each in germany.violations]) == ("valid", ["country 'de', planned 'DE'"])


@pytest.mark.parametrize(
    ("users", "asking", "said"),
    [
        (100, 10, ""),
        (100, 9, ""),
        (100, 8, "8 of the run's 100 users made its 10 requests, though they take turns"),
        (100, 1, "1 of the run's 100 users made its 10 requests, though they take turns"),
        (2, 2, ""),
        (2, 1, "1 of the run's 2 users made its 10 requests, though they take turns"),
        (5, 10, ""),
    ],
)
def test_users_take_turns(users: int, asking: int, said: str) -> None:
    requests = [each._replace(user_id=ONE_OF_THE_USERS) for each in PLAN]
    records = [make_record(number, user_id=f"u{number % asking}") for number in range(N)]
    plan = PlannedRun(requests, "constant", 1e9 / STEP_NS, N * STEP_NS, users)
    verdict = asked.check(make_evidence(records, plan=plan))
    assert verdict
    assert [each.message for each in verdict.violations] == [said][: len(said)]


def test_where_an_engine_decides_everything_times_alone_are_compared() -> None:
    plan = [PlannedRequest(each.offset_ns) for each in PLAN]
    verdict, late = asked.check(_evidence(plan)), asked.check(_evidence(plan, intended_ns=5))
    assert verdict
    assert late
    assert (verdict.outcome, late.outcome) == ("valid", "invalid")
    assert verdict.summary == "10 requests compared with the plan: when they were due"


def test_without_a_plan_there_is_no_verdict_and_with_nothing_sent_none_is_known() -> None:
    assert asked.check(make_evidence([make_record()])) is None
    unsent = make_evidence([make_record(status="UNSENT")], plan=PlannedRun(PLAN, "constant", 1_000, N * STEP_NS))
    verdict = asked.check(unsent)
    assert verdict
    assert verdict.outcome == "unknown"
