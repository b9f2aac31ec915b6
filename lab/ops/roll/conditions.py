"""Abort conditions of a rollout: pure functions from a step's evidence to met, not met, or unknown.

A condition is met if, with a true share at the limit, as many bad requests would occur in fewer than one of a hundred
cases (exact binomial tail). It is not met if at least :data:`ENOUGH` requests were seen and their share is within the
limit. Otherwise it is unknown.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from lab.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DEFAULT_CONDITIONS = "error-rate>1%,p99>1.5x,misroutes>0"
ENOUGH = 20
"""Least number of requests to the new version for a condition to be *not met*."""

_SIGNIFICANT = 0.01
_P99_SHARE = 0.01


class Standing(StrEnum):
    """Result of judging a condition; ``met`` aborts the rollout."""

    MET = "met"
    NOT_MET = "not met"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts and latencies of the requests that the rules sent to one version.

    Attributes:
        requests: number of requests.
        errors: number of those that it did not answer.
        latencies_ms: of those that it answered, sorted, in ms.
    """

    requests: int = 0
    errors: int = 0
    latencies_ms: Sequence[float] = field(default=(), repr=False)

    @property
    def p99_ms(self) -> float:
        """99th percentile by nearest rank, ms; 0 if it answered none."""
        return self.latencies_ms[-(-len(self.latencies_ms) * 99 // 100) - 1] if self.latencies_ms else 0.0

    def with_more(self, other: Figures) -> Figures:
        """The sum of both."""
        return Figures(
            self.requests + other.requests,
            self.errors + other.errors,
            sorted([*self.latencies_ms, *other.latencies_ms]),
        )


@dataclass(frozen=True, slots=True)
class Evidence:
    """Measurements of one step.

    Attributes:
        new: figures of the new version.
        old: figures of the old versions; at 100 % those of the previous step.
        misroutes: number of answers that no rule allowed; None if that is unknown.
    """

    new: Figures = Figures()
    old: Figures = Figures()
    misroutes: int | None = 0


@dataclass(frozen=True, slots=True)
class Judgement:
    """The result of judging one condition, and the figures behind it."""

    condition: str
    standing: Standing
    because: str


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that aborts a rollout.

    Attributes:
        text: as it was written, e.g. ``error-rate>1%``.
        limit: the number in it.
        measure: judges a step's evidence by the limit: the standing, and the figures behind it.
    """

    text: str
    limit: float
    measure: Callable[[Evidence, float], tuple[Standing, str]]

    def judge(self, evidence: Evidence) -> Judgement:
        """Judges the evidence of a step."""
        return Judgement(self.text, *self.measure(evidence, self.limit))


def _error_rate(evidence: Evidence, percent: float) -> tuple[Standing, str]:
    """``error-rate>1%``: the new version fails more than this share of its requests."""
    new = evidence.new
    share = new.errors / new.requests if new.requests else 0.0
    because = f"{new.errors} of {new.requests} requests to the new version failed ({share:.1%})"
    return _standing(new.errors, new.requests, percent / 100), because


def _p99_ratio(evidence: Evidence, times: float) -> tuple[Standing, str]:
    """``p99>1.5x``: more than 1 % of answers take longer than 1.5 times the old version's p99."""
    new, old = evidence.new, evidence.old
    because = f"p99 {new.p99_ms:.2f} ms, {old.p99_ms:.2f} ms of the old version"
    answered = len(new.latencies_ms)
    if len(old.latencies_ms) < ENOUGH:
        return Standing.UNKNOWN, f"{because}, which answered only {len(old.latencies_ms)} requests"
    late = sum(each > times * old.p99_ms for each in new.latencies_ms)
    because += f"; {late} of {answered} took longer than {times:g} times that"
    return _standing(late, answered, _P99_SHARE), because


def _misroutes(evidence: Evidence, most: float) -> tuple[Standing, str]:
    """``misroutes>0``: answers that no rule in force allowed."""
    if evidence.misroutes is None:
        return Standing.UNKNOWN, "the routing checker could not judge every answer"
    return Standing.MET if evidence.misroutes > most else Standing.NOT_MET, f"{evidence.misroutes} misrouted"


_FORMS = (
    (re.compile(r"error-rate>([0-9.]+)%"), _error_rate),
    (re.compile(r"p99>([0-9.]+)x"), _p99_ratio),
    (re.compile(r"misroutes>([0-9]+)"), _misroutes),
)


def parse_conditions(text: str) -> tuple[Condition, ...]:
    """Reads ``error-rate>1%,p99>1.5x,misroutes>0``; any of them, in any order.

    Raises:
        InputError: a condition has another form.
    """
    return tuple(_condition(part.strip()) for part in text.split(",") if part.strip())


def _condition(text: str) -> Condition:
    for form, measure in _FORMS:
        if match := form.fullmatch(text):
            try:
                return Condition(text, float(match[1]), measure)
            except ValueError:
                break
    raise InputError(f"--abort-on: {text!r} is not a condition; write e.g. {DEFAULT_CONDITIONS}")


def _standing(bad: int, total: int, limit: float) -> Standing:
    if bad and _tail(bad, total, limit) < _SIGNIFICANT:
        return Standing.MET
    if total >= ENOUGH and bad <= limit * total:
        return Standing.NOT_MET
    return Standing.UNKNOWN


def _tail(bad: int, total: int, share: float) -> float:
    """Probability that ``bad`` or more of ``total`` are bad if each is bad with probability ``share``."""
    if share >= 1:
        return 1.0
    if share <= 0:
        return 0.0
    # Sums upwards from ``bad``: 1 minus the sum below it would lose small tails to rounding.
    log_term = (
        math.lgamma(total + 1)
        - math.lgamma(bad + 1)
        - math.lgamma(total - bad + 1)
        + bad * math.log(share)
        + (total - bad) * math.log1p(-share)
    )
    term, result = math.exp(log_term), 0.0
    for count in range(bad, total + 1):
        result += term
        term *= (total - count) / (count + 1) * share / (1 - share)
        if term < result * 1e-12:
            break
    return min(result, 1.0)
