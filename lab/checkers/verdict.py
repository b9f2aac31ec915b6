"""Verdicts of checkers: valid, invalid or unknown, with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Claim(StrEnum):
    """What a verdict is about. Claims are judged apart: a late driver invalidates the timing, and nothing else."""

    CORRECTNESS = "correctness"  # the right version got the right request and gave the right answer
    AVAILABILITY = "availability"  # requests were answered
    TIMING = "timing"  # requests were sent when they were due, so latencies can be trusted


DEFAULT_CLAIMS = (Claim.CORRECTNESS, Claim.AVAILABILITY)
"""The claims that decide an exit status unless others are asked for."""


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
        sequence: the record's; -1 if the request has none.
        request_id: the record's.
        message: the observed and the allowed behaviour.
    """

    checker: str
    sequence: int
    request_id: str
    message: str


@dataclass(frozen=True, slots=True)
class TooFew:
    """What a run is too small to judge.

    Attributes:
        what: in words, e.g. ``too few users to judge the 5 % arm of …``.
        times: how many times as many requests would be enough, about.
    """

    what: str
    times: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """One checker's judgement of one run.

    Attributes:
        summary: one line with the counts that it rests on, or the reason why it is unknown.
        violations: all of them, in the order of the records; not empty exactly if the outcome is invalid.
        claim: what it is about; :func:`lab.checkers.check` sets the checker's.
        too_few: what it leaves open for want of requests alone. If that makes it unknown, the others decide the claim.
    """

    checker: str
    outcome: Outcome
    summary: str
    violations: tuple[Violation, ...] = ()
    claim: Claim = Claim.CORRECTNESS
    too_few: TooFew | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is unknown for want of requests alone."""
        return self.outcome is Outcome.UNKNOWN and self.too_few is not None

    def __post_init__(self) -> None:
        if bool(self.violations) != (self.outcome is Outcome.INVALID):
            raise ValueError(f"{self.checker}: {self.outcome} with {len(self.violations)} violations")


def combine(verdicts: Iterable[Verdict]) -> Outcome:
    """Returns the outcome of several verdicts, see :func:`worst`."""
    return worst(verdict.outcome for verdict in verdicts)


def by_claim(verdicts: Iterable[Verdict]) -> dict[Claim, Outcome]:
    """Returns the outcome of each claim; a claim without any verdict that decides it is unknown."""
    deciding = [each for each in verdicts if not each.is_open]
    return {claim: combine(each for each in deciding if each.claim is claim) for claim in Claim}


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Returns the worst of several outcomes: invalid beats unknown beats valid. None at all is unknown."""
    found = set(outcomes)
    for outcome in (Outcome.INVALID, Outcome.UNKNOWN, Outcome.VALID):
        if outcome in found:
            return outcome
    return Outcome.UNKNOWN
