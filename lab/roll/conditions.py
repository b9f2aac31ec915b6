"""When a roll is to be broken off: conditions on what a step has shown, judged as met, not met, or unknown: pure.

A condition is met only when chance is a poor excuse: were the true share at the limit, so many bad requests would be
seen in fewer than one of a hundred cases (exact binomial tail). It is not met when enough requests were seen and the
share among them keeps the limit. Between the two, and with few requests, it is unknown.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from lab.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_CONDITIONS = "error-rate>1%,p99>1.5x,misroutes>0"
ENOUGH = 20
"""Requests to the new version below which nothing is called good."""

_SIGNIFICANT = 0.01
_P99_SHARE = 0.01


class Standing(StrEnum):
    """How a condition stands: ``met`` breaks the roll off."""

    MET = "met"
    NOT_MET = "not met"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Figures:
    """What one version did for requests that the rules sent to it.

    Attributes:
        requests: how many.
        errors: of those, not answered by it.
        latencies_ms: of those that it answered, sorted.
    """

    requests: int = 0
    errors: int = 0
    latencies_ms: Sequence[float] = field(default=(), repr=False)

    @property
    def p99_ms(self) -> float:
        """Nearest rank; 0 if it answered nothing."""
        return self.latencies_ms[-(-len(self.latencies_ms) * 99 // 100) - 1] if self.latencies_ms else 0.0

    def with_more(self, other: Figures) -> Figures:
        """Both together."""
        return Figures(
            self.requests + other.requests,
            self.errors + other.errors,
            sorted([*self.latencies_ms, *other.latencies_ms]),
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """What a step has shown.

    Attributes:
        new: the version that is rolled to.
        old: those that are rolled away from; at 100 % of the step before.
        misroutes: answers that no rule allowed; None if that cannot be said.
    """

    new: Figures = Figures()
    old: Figures = Figures()
    misroutes: int | None = 0


@dataclass(frozen=True, slots=True)
class Judgement:
    """How one condition stands, and by which figures."""

    condition: str
    standing: Standing
    because: str


class Condition(Protocol):
    """Something that breaks a roll off."""

    def judge(self, seen: Seen) -> Judgement:
        """How it stands."""


@dataclass(frozen=True, slots=True)
class ErrorRate:
    """``error-rate>1%``: the new version fails more than this share of its requests."""

    text: str
    limit: float

    def judge(self, seen: Seen) -> Judgement:
        """How it stands."""
        new = seen.new
        share = new.errors / new.requests if new.requests else 0.0
        because = f"{new.errors} of {new.requests} requests to the new version failed ({share:.1%})"
        return Judgement(self.text, _standing(new.errors, new.requests, self.limit), because)


@dataclass(frozen=True, slots=True)
class Slower:
    """``p99>1.5x``: more than one of a hundred answers is later than so many times the old version's p99."""

    text: str
    times: float

    def judge(self, seen: Seen) -> Judgement:
        """How it stands."""
        new, old = seen.new, seen.old
        because = f"p99 {new.p99_ms:.2f} ms, {old.p99_ms:.2f} ms of the old version"
        answered = len(new.latencies_ms)
        if len(old.latencies_ms) < ENOUGH:
            return Judgement(self.text, Standing.UNKNOWN, f"{because}, which answered {len(old.latencies_ms)} requests")
        late = sum(each > self.times * old.p99_ms for each in new.latencies_ms)
        because += f"; {late} of {answered} later than {self.times:g} times that"
        return Judgement(self.text, _standing(late, answered, _P99_SHARE), because)


@dataclass(frozen=True, slots=True)
class Misroutes:
    """``misroutes>0``: answers that no rule in force allowed."""

    text: str
    limit: int

    def judge(self, seen: Seen) -> Judgement:
        """How it stands."""
        if seen.misroutes is None:
            return Judgement(self.text, Standing.UNKNOWN, "the routing checker could not judge every answer")
        standing = Standing.MET if seen.misroutes > self.limit else Standing.NOT_MET
        return Judgement(self.text, standing, f"{seen.misroutes} misrouted")


_FORMS = (
    (re.compile(r"error-rate>([0-9.]+)%"), lambda text, number: ErrorRate(text, number / 100)),
    (re.compile(r"p99>([0-9.]+)x"), Slower),
    (re.compile(r"misroutes>([0-9]+)"), lambda text, number: Misroutes(text, int(number))),
)


def parse_conditions(text: str) -> tuple[Condition, ...]:
    """Reads ``error-rate>1%,p99>1.5x,misroutes>0``; any of them, in any order.

    Raises:
        InputError: a condition of another form.
    """
    return tuple(_condition(part.strip()) for part in text.split(",") if part.strip())


def _condition(text: str) -> Condition:
    for form, make in _FORMS:
        match = form.fullmatch(text)
        if match is not None:
            try:
                return make(text, float(match[1]))
            except ValueError:
                break
    raise InputError(f"--abort-on: {text!r} is no condition; write e.g. {DEFAULT_CONDITIONS}")


def _standing(bad: int, total: int, limit: float) -> Standing:
    if bad and _tail(bad, total, limit) < _SIGNIFICANT:
        return Standing.MET
    if total >= ENOUGH and bad <= limit * total:
        return Standing.NOT_MET
    return Standing.UNKNOWN


def _tail(bad: int, total: int, share: float) -> float:
    """Probability of so many bad ones or more, were each bad with this probability."""
    if share >= 1:
        return 1.0
    if share <= 0:
        return 0.0
    # From the least likely end on, where it matters: the sum below would lose small tails to rounding.
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
