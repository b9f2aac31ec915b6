"""What checkers say: valid, invalid or unknown, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Outcome(StrEnum):
    """Whether the evidence shows that all was right, that something was wrong, or neither."""

    VALID = "valid"
    INVALID = "invalid"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Violation:
    """One request that shows that something was wrong.

    Attributes:
        checker: who says so.
        sequence: the record's.
        request_id: the record's.
        message: what was seen and what was allowed.
    """

    checker: str
    sequence: int
    request_id: str
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """One checker's judgement of one run.

    Attributes:
        summary: one line with the counts that it rests on, or why nothing can be said.
        violations: all of them, in the order of the records; not empty if and only if the outcome is invalid.
    """

    checker: str
    outcome: Outcome
    summary: str
    violations: tuple[Violation, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.violations) != (self.outcome is Outcome.INVALID):
            raise ValueError(f"{self.checker}: {self.outcome} with {len(self.violations)} violations")


def combine(verdicts: Iterable[Verdict]) -> Outcome:
    """The outcome of all together: invalid beats unknown beats valid. No verdict at all is unknown."""
    outcomes = {verdict.outcome for verdict in verdicts}
    for outcome in (Outcome.INVALID, Outcome.UNKNOWN, Outcome.VALID):
        if outcome in outcomes:
            return outcome
    return Outcome.UNKNOWN
