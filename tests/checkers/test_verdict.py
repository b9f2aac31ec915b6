from __future__ import annotations

import pytest

from lab.checkers import Claim, Outcome, TooFew, Verdict, Violation, by_claim, combine

VIOLATION = Violation("c", 0, "r0", "wrong")


def verdict(outcome: Outcome) -> Verdict:
    return Verdict("c", outcome, "", (VIOLATION,) if outcome is Outcome.INVALID else ())


@pytest.mark.parametrize(
    ("outcomes", "together"),
    [
        ([], "unknown"),
        (["valid"], "valid"),
        (["valid", "valid"], "valid"),
        (["valid", "unknown"], "unknown"),
        (["unknown", "valid"], "unknown"),
        (["valid", "unknown", "invalid"], "invalid"),
        (["invalid", "unknown"], "invalid"),
    ],
)
def test_invalid_beats_unknown_beats_valid_and_nothing_is_unknown(outcomes: list[str], together: str) -> None:
    assert combine(verdict(Outcome(outcome)) for outcome in outcomes) == together


def test_a_verdict_cannot_contradict_itself() -> None:
    for outcome in (Outcome.VALID, Outcome.UNKNOWN):
        with pytest.raises(ValueError, match="with 1 violations"):
            Verdict("c", outcome, "", (VIOLATION,))
    with pytest.raises(ValueError, match="invalid with 0 violations"):
        Verdict("c", Outcome.INVALID, "")


def test_claims_are_judged_apart_and_one_without_any_verdict_is_unknown() -> None:
    late = Verdict("driver", Outcome.UNKNOWN, "", claim=Claim.TIMING)
    assert by_claim([verdict(Outcome.VALID), late]) == {
        Claim.CORRECTNESS: Outcome.VALID,
        Claim.AVAILABILITY: Outcome.UNKNOWN,
        Claim.TIMING: Outcome.UNKNOWN,
    }
    assert by_claim([verdict(Outcome.INVALID), late])[Claim.CORRECTNESS] == Outcome.INVALID


def test_a_verdict_that_lacks_requests_alone_decides_no_claim() -> None:
    small = Verdict("split", Outcome.UNKNOWN, "", too_few=TooFew("too few users", 2.0))

    assert by_claim([verdict(Outcome.VALID), small])[Claim.CORRECTNESS] == Outcome.VALID
    assert by_claim([verdict(Outcome.UNKNOWN), small])[Claim.CORRECTNESS] == Outcome.UNKNOWN
    assert by_claim([small])[Claim.CORRECTNESS] == Outcome.UNKNOWN
