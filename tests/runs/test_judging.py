"""A result in words, and by the claims that are asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lab.checkers import Claim, Outcome, TooFew, Verdict, Violation
from lab.load.summary import summarize
from lab.runs import RunResult
from lab.runs.judging import Counts, round_rate_below, wrong_answers
from lab.runs.seal import UNSEALED
from tests.checkers.builders import make_record

LATE = Verdict("driver", Outcome.UNKNOWN, "late", claim=Claim.TIMING)
ON_TIME = Verdict("driver", Outcome.VALID, "on time", claim=Claim.TIMING)
RIGHT = Verdict("routing", Outcome.VALID, "all right")
ANSWERED = Verdict("answered", Outcome.VALID, "all answered", claim=Claim.AVAILABILITY)
LOST = Verdict("answered", Outcome.INVALID, "lost", (Violation("answered", 0, "r0", "lost"),), Claim.AVAILABILITY)


def _run(*verdicts: Verdict) -> RunResult:
    summary = summarize([make_record(number) for number in range(10)], None, came_due=10)
    return RunResult(Path("run"), replace(summary, offered=200.0, achieved_rate=200.0), verdicts)


def test_a_late_driver_is_said_in_words_with_a_rate_to_try() -> None:
    assert _run(RIGHT, ANSWERED, LATE).sentence == (
        "Routing: right. Requests: answered, or failed for a known cause. "
        "Latency: not to be trusted, this machine was busy; try `--rate 100`."
    )
    assert _run(RIGHT, LOST, ON_TIME).sentence == (
        "Routing: right. Requests: not as they should be, says the checker answered: lost. "
        "Latency: requests were sent on time."
    )


@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        ("lab load --duration 3 --topology mesh", "`lab load --topology mesh --duration 1`"),
        ("pytest", "a run 4 times as long"),
    ],
)
def test_what_a_run_is_too_small_for_is_a_note_with_the_command_that_would_tell(command: str, remedy: str) -> None:
    small = Verdict("split", Outcome.UNKNOWN, "", too_few=TooFew("too few users", 4.0))
    result = replace(_run(RIGHT, ANSWERED, ON_TIME, small), seal=replace(UNSEALED, command=command))

    assert result.outcome == "valid"
    assert result.sentence.endswith(f"sent on time. Open: too few users; {remedy} would tell.")


@pytest.mark.parametrize(
    ("verdicts", "asked", "outcome"),
    [
        ((RIGHT, ANSWERED, LATE), (Claim.CORRECTNESS, Claim.AVAILABILITY), "valid"),
        ((RIGHT, ANSWERED, LATE), (Claim.TIMING,), "unknown"),
        ((RIGHT, LOST, ON_TIME), (Claim.CORRECTNESS, Claim.TIMING), "valid"),
        ((RIGHT, LOST, ON_TIME), (Claim.AVAILABILITY,), "invalid"),
        ((RIGHT, LATE), (Claim.CORRECTNESS, Claim.AVAILABILITY), "unknown"),
    ],
)
def test_the_outcome_is_that_of_the_claims_asked_for(
    verdicts: tuple[Verdict, ...], asked: tuple[Claim, ...], outcome: str
) -> None:
    result = replace(_run(*verdicts), asked=asked)
    assert result.outcome == outcome
    assert result.to_document()["verdict"] == outcome
    assert result.to_document()["claims"] == {str(claim): str(each) for claim, each in result.claims.items()}


@pytest.mark.parametrize(("rate", "below"), [(0, 0), (0.7, 0.5), (1, 1), (99, 50), (100, 100), (249, 200), (999, 500)])
def test_a_suggested_rate_is_round_and_not_above(rate: float, below: float) -> None:
    assert round_rate_below(rate) == pytest.approx(below)


def test_counts_are_disjoint_and_add_up() -> None:
    records = [make_record(number) for number in range(4)]
    records += [make_record(4, status="UNAVAILABLE"), make_record(5, status="UNSENT")]
    # One answer to which two checkers object, and a failure to which one does.
    objections = [("routing", 0), ("tear", 0), ("routing", 4)]
    verdicts = [
        Verdict(checker, Outcome.INVALID, "", (Violation(checker, number, "", ""),), claim=Claim.CORRECTNESS)
        for checker, number in objections
    ]

    result = RunResult(Path("run"), summarize(records, None, came_due=6), (), wrong=wrong_answers(records, verdicts))

    assert result.counts == Counts(right=3, wrong=1, failed=1, unsent=1)
    assert str(result.counts) == "3 right, 1 wrong, 1 failed, 1 unsent"
    assert sum(result.counts) == result.summary.planned
