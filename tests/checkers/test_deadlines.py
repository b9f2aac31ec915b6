"""Each request comes to models with a deadline, no later than its timeout allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lab.checkers import Abilities
from lab.checkers.kinds import deadlines
from lab.history.arrivals import NO_DEADLINE, NO_TIME_RECORDED
from tests.checkers.builders import arrivals_of, make_evidence, make_record, make_table

if TYPE_CHECKING:
    from lab.checkers import Verdict
    from lab.history.arrivals import Arrival

CAN = Abilities(deadlines=True)
RECORD = make_record(0)
MS = 1_000_000


def judge(*left_ms: int, **changes: Any) -> Verdict | None:
    """The verdict on attempts with so much time left, each after the one before had failed within 100 ms."""
    [arrival] = arrivals_of([RECORD])
    began_ns = [arrival.arrived_ns + number * 101 * MS for number in range(len(left_ms))]
    arrivals: list[Arrival] = [
        arrival._replace(arrived_ns=at_ns, ended_ns=at_ns + 100 * MS, remaining_ms=left, status="INTERNAL")
        for at_ns, left in zip(began_ns, left_ms, strict=True)
    ]
    return deadlines.check(make_evidence([RECORD], **{"arrivals": arrivals, "abilities": CAN, **changes}))


def outcome(verdict: Verdict | None) -> str:
    return verdict.outcome if verdict else "nothing"


@pytest.mark.parametrize(
    ("left_ms", "expected"),
    [
        ((250,), "valid"),
        ((0,), "valid"),
        ((253,), "valid"),  # as gRPC rounds it
        ((300,), "invalid"),
        ((10_000,), "invalid"),
        ((NO_DEADLINE,), "invalid"),
        ((250, 150), "valid"),
        ((250, 250), "invalid"),  # the time of the first attempt is given again
        ((), "unknown"),
    ],
)
def test_no_attempt_has_more_time_than_is_left(left_ms: tuple[int, ...], expected: str) -> None:
    assert outcome(judge(*left_ms)) == expected


def test_an_attempt_that_comes_late_to_its_replica_has_the_time_of_its_sending() -> None:
    [answered] = arrivals_of([RECORD])
    answered = answered._replace(ended_ns=answered.arrived_ns + 100 * MS, remaining_ms=150)
    late = answered._replace(replica="a-1", arrived_ns=answered.ended_ns + MS, remaining_ms=250, status="CANCELLED")
    assert outcome(judge(arrivals=[answered, late])) == "valid"
    assert outcome(judge(arrivals=[answered._replace(status="INTERNAL"), late])) == "invalid"


def test_a_violation_says_what_was_left() -> None:
    verdict = judge(250, 240)
    assert verdict
    assert [each.message for each in verdict.violations] == [
        "request #0 (r0) came to a-0 with 240 ms left; its timeout is 250 ms, of which earlier attempts took 100 ms"
    ]


def test_a_hedge_starts_beside_the_first_attempt() -> None:
    assert outcome(judge(990, 990, table=make_table(hedge={"after": "20ms"}))) == "valid"
    assert outcome(judge(990, 990, table=make_table())) == "invalid"


def test_without_rules_the_timeout_is_the_plans() -> None:
    direct = Abilities(deadlines=True, follows_rules=False)
    assert outcome(judge(10_100, abilities=direct, timeout_s=10.0)) == "valid"
    assert outcome(judge(20_000, abilities=direct, timeout_s=10.0)) == "invalid"


def test_topologies_and_releases_without_this_evidence_are_not_judged() -> None:
    assert judge(NO_DEADLINE, abilities=Abilities()) is None
    assert judge(NO_TIME_RECORDED) is None
    assert outcome(judge(arrivals=None)) == "unknown"
