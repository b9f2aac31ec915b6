"""Verdicts of checkers: valid, invalid or unknown, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Outcome(StrEnum):
    """Whether the evidence shows correct behaviour, a violation, or is too little for either."""

    VALID = "valid"
    INVALID = "invalid"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Violation:
    """One request that violates what a checker asserts.

    Attributes:
        checker: its name.
        sequence: the record's.
        request_id: the record's.
        message: the observed and the allowed behaviour.
    """

    checker: str
    sequence: int
    request_id: str
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """One checker's judgement of one run.

    Attributes:
        summary: one line with the counts that it rests on, or the reason why it is unknown.
        violations: all of them, in the order of the records; not empty exactly if the outcome is invalid.
    """

    checker: str
    outcome: Outcome
    summary: str
    violations: tuple[Violation, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.violations) != (self.outcome is Outcome.INVALID):
            raise ValueError(f"{self.checker}: {self.outcome} with {len(self.violations)} violations")


def combine(verdicts: Iterable[Verdict]) -> Outcome:
    """Returns the outcome of several verdicts: invalid beats unknown beats valid. No verdict at all is unknown."""
    outcomes = {verdict.outcome for verdict in verdicts}
    for outcome in (Outcome.INVALID, Outcome.UNKNOWN, Outcome.VALID):
        if outcome in outcomes:
            return outcome
    return Outcome.UNKNOWN
