"""Scenarios ask for claims by name: a late driver costs the timing, and excuses nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.checkers import Claim, Outcome, Verdict, Violation
from lab.load.summary import summarize
from lab.runs import RunResult
from scenarios.framework.steps import assert_all_answered_rightly, assert_on_time
from scenarios.framework.verdicts import LateError, UnknownError
from tests.checkers.builders import make_record

LATE = Verdict("driver", Outcome.UNKNOWN, "schedule delay p99 50 ms", claim=Claim.TIMING)
ON_TIME = Verdict("driver", Outcome.VALID, "on time", claim=Claim.TIMING)
RIGHT = Verdict("routing", Outcome.VALID, "all right")
WRONG = Verdict("routing", Outcome.INVALID, "1 wrong", (Violation("routing", 0, "r0", "misrouted"),))
LOST = Verdict("answered", Outcome.INVALID, "1 lost", (Violation("answered", 0, "r0", "lost"),), Claim.AVAILABILITY)
UNSHOWN = Verdict("answered", Outcome.UNKNOWN, "nothing was asked", claim=Claim.AVAILABILITY)


def _run(*verdicts: Verdict) -> RunResult:
    records = [make_record(number) for number in range(10)]
    return RunResult(Path("run"), summarize(records, None, came_due=10), verdicts)


def test_a_late_driver_fails_the_timing_alone() -> None:
    assert_all_answered_rightly(_run(RIGHT, LATE))
    with pytest.raises(LateError, match="schedule delay p99 50 ms"):
        assert_on_time(_run(RIGHT, LATE))
    assert_on_time(_run(RIGHT, ON_TIME))


def test_a_run_without_a_verdict_on_its_timing_is_not_on_time() -> None:
    with pytest.raises(LateError):
        assert_on_time(_run(RIGHT))


@pytest.mark.parametrize("verdict", [WRONG, LOST], ids=["misroute", "lost request"])
def test_a_late_driver_excuses_no_wrong_or_lost_request(verdict: Verdict) -> None:
    with pytest.raises(AssertionError, match=verdict.summary):
        assert_all_answered_rightly(_run(RIGHT, verdict, LATE))


def test_a_claim_that_is_not_shown_is_unknown() -> None:
    with pytest.raises(UnknownError, match="nothing was asked"):
        assert_all_answered_rightly(_run(RIGHT, UNSHOWN, ON_TIME))
