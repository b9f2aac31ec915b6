"""Abort conditions of a rollout: pure functions from a step's evidence to met, not met, or unknown.

A condition is met if, with a true share at the limit, as many bad requests would occur in fewer than one of a hundred
cases (exact binomial tail). It is not met if :func:`enough` requests were seen and their share is within the limit.
Otherwise it is unknown. With enough requests, a version whose true share is five times the limit meets the condition
in nine of ten cases (the test's power).

A busy machine makes requests of both versions late, in bursts, or fail. So a latency condition is met only if, in
addition, the new version was late in more of the windows of 0.2 s than the old one (sign test, one of a hundred cases
again); and while the driver is late, an error rate only if the new version failed more often than the old one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache

from lab.errors import InputError

DEFAULT_CONDITIONS = "error-rate>1%,p99>1.5x,misroutes>0"

_LEAST = 20
_SIGNIFICANT = 0.01
_POWER = 0.9
_TIMES_WORSE = 5
_P99_SHARE = 0.01
PATIENCE = 5
"""More than this many times the requests that are enough do not help."""
WINDOW_NS = 200_000_000
_ROUNDED_UP = 0.995


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
        slowest_ms: the longest of them in each window of :data:`WINDOW_NS` in which any was due, by window.
    """

    requests: int = 0
    errors: int = 0
    latencies_ms: Sequence[float] = field(default=(), repr=False)
    slowest_ms: Mapping[int, float] = field(default_factory=dict, repr=False)

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
            {
                window: max(self.slowest_ms.get(window, 0.0), other.slowest_ms.get(window, 0.0))
                for window in self.slowest_ms.keys() | other.slowest_ms.keys()
            },
        )

    def counts(self) -> Figures:
        """The figures without latencies."""
        return Figures(self.requests, self.errors)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Measurements of one step.

    Attributes:
        new: figures of the new version.
        old: figures of the old versions; at 100 % those of the previous step.
        misroutes: number of answers that no rule allowed; None if that is unknown.
        judged: number of requests whose answers were judged for that.
        late: whether the driver was late, as on a busy machine: latencies of two times cannot be compared then.
    """

    new: Figures = Figures()
    old: Figures = Figures()
    misroutes: int | None = 0
    judged: int = 0
    late: bool = False

    def with_more(self, other: Evidence) -> Evidence:
        """The sum of both."""
        unknown = self.misroutes is None or other.misroutes is None
        return Evidence(
            self.new.with_more(other.new),
            self.old.with_more(other.old),
            None if unknown else (self.misroutes or 0) + (other.misroutes or 0),
            self.judged + other.judged,
            self.late or other.late,
        )

    def timely(self) -> Evidence:
        """The evidence without latencies, if the driver was late."""
        return replace(self, new=self.new.counts(), old=self.old.counts()) if self.late else self


@dataclass(frozen=True, slots=True)
class Judgement:
    """The result of judging one condition, and the figures behind it.

    Attributes:
        requests: number of requests that it was judged by.
        power: probability, 0 to 1, that this many requests reveal a version of the share ``bad``.
        bad: five times the limit, as a share of requests, 1 % at least.
    """

    condition: str
    standing: Standing
    because: str
    requests: int
    power: float
    bad: float

    def __str__(self) -> str:
        """In words, e.g. ``error rate of the new version 0 % ≤ 1 %; n = 1,012, power 100 % against 5 %``."""
        return f"{self.because}; n = {self.requests:,}, power {percent(self.power)} against {percent(self.bad)}"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that aborts a rollout.

    Attributes:
        text: as it was written, e.g. ``error-rate>1%``.
        limit: the number in it.
        share: the limit as a share of requests, 0 to 1.
        measure: judges a step's evidence by limit and share: the standing, the figures behind it, and the number of
            requests.
    """

    text: str
    limit: float
    share: float
    measure: Callable[[Evidence, float, float], tuple[Standing, str, int]]

    def judge(self, evidence: Evidence) -> Judgement:
        """Judges the evidence of a step."""
        standing, because, requests = self.measure(evidence, self.limit, self.share)
        return Judgement(self.text, standing, because, requests, _power(requests, self.share), _bad(self.share))


def percent(share: float) -> str:
    """A share of requests in words, two digits: ``0.25 %``."""
    return f"{100 * share:.2g} %" if share < _ROUNDED_UP else f"{100 * share:.0f} %"


def _error_rate(evidence: Evidence, limit: float, share: float) -> tuple[Standing, str, int]:
    """``error-rate>1%``: the new version fails more than this share of its requests."""
    new, old = evidence.new, evidence.old
    failed = new.errors / new.requests if new.requests else 0.0
    because = f"error rate of the new version {percent(failed)} {'>' if failed > share else '≤'} {limit:g} %"
    standing = _standing(new.errors, new.requests, share)
    if failed > share and evidence.late and old.requests:
        no_worse = (
            _tail(new.errors, new.errors + old.errors, new.requests / (new.requests + old.requests)) >= _SIGNIFICANT
        )
        because += f", {'not clearly worse than' if no_worse else 'worse than'} the old version's "
        because += percent(old.errors / old.requests)
        if no_worse:
            standing = _as_bad_as_the_old(new.requests, share)
    return standing, because, new.requests


def _p99_ratio(evidence: Evidence, times: float, share: float) -> tuple[Standing, str, int]:
    """``p99>1.5x``: more than 1 % of answers take longer than 1.5 times the old version's p99."""
    new, old = evidence.new, evidence.old
    answered = len(new.latencies_ms)
    if len(old.latencies_ms) < _LEAST:
        return Standing.UNKNOWN, f"the old version answered only {len(old.latencies_ms)} requests", answered
    late = sum(each > times * old.p99_ms for each in new.latencies_ms)
    over = late / answered if answered else 0.0
    because = (
        f"p99 {new.p99_ms:.2f} ms, {old.p99_ms:.2f} ms of the old version; {percent(over)} "
        f"{'>' if over > share else '≤'} {percent(share)} took longer than {times:g} times that"
    )
    standing = _standing(late, answered, share)
    if over <= share:
        return standing, because, answered
    windows = new.slowest_ms.keys() & old.slowest_ms.keys()
    if windows:  # both versions got requests at the same time
        limit_ms = times * old.p99_ms
        only_new = sum(old.slowest_ms[each] <= limit_ms < new.slowest_ms[each] for each in windows)
        only_old = sum(new.slowest_ms[each] <= limit_ms < old.slowest_ms[each] for each in windows)
        because += f"; in {only_new} of {len(windows)} windows only the new version did, in {only_old} only the old one"
        if _tail(only_new, only_new + only_old, 0.5) >= _SIGNIFICANT:
            standing = _as_bad_as_the_old(answered, share)
    return standing, because, answered


def _misroutes(evidence: Evidence, most: float, _share: float) -> tuple[Standing, str, int]:
    """``misroutes>0``: answers that no rule in force allowed."""
    found = evidence.misroutes
    if found is None:
        return Standing.UNKNOWN, "the routing checker could not judge every answer", evidence.judged
    standing, sign = (Standing.MET, ">") if found > most else (Standing.NOT_MET, "≤")
    return standing, f"{found} misrouted {sign} {most:g}", evidence.judged


_FORMS = (
    (re.compile(r"error-rate>([0-9.]+)%"), _error_rate, lambda limit: limit / 100),
    (re.compile(r"p99>([0-9.]+)x"), _p99_ratio, lambda _: _P99_SHARE),
    (re.compile(r"misroutes>([0-9]+)"), _misroutes, lambda _: 0.0),
)


def parse_conditions(text: str) -> tuple[Condition, ...]:
    """Reads ``error-rate>1%,p99>1.5x,misroutes>0``; any of them, in any order.

    Raises:
        InputError: a condition has another form.
    """
    return tuple(_condition(part.strip()) for part in text.split(",") if part.strip())


def _condition(text: str) -> Condition:
    for form, measure, share in _FORMS:
        if match := form.fullmatch(text):
            try:
                limit = float(match[1])
                return Condition(text, limit, share(limit), measure)
            except ValueError:
                break
    raise InputError(f"--abort-on: {text!r} is not a condition; write e.g. {DEFAULT_CONDITIONS}")


def _standing(bad: int, total: int, limit: float) -> Standing:
    if bad and _tail(bad, total, limit) < _SIGNIFICANT:
        return Standing.MET
    if bad <= limit * total and total >= enough(limit):
        return Standing.NOT_MET
    return Standing.UNKNOWN


def _as_bad_as_the_old(total: int, limit: float) -> Standing:
    """Both versions have a share over the limit, as on a busy machine: more requests may tell them apart."""
    return Standing.NOT_MET if total >= PATIENCE * enough(limit) else Standing.UNKNOWN


@cache
def enough(limit: float) -> int:
    """Least number of requests for a condition to be *not met*; ``limit`` is the share that it allows, 0 to 1."""
    total = _LEAST
    while _power(total, limit) < _POWER and limit < 1:
        total += 1 + total // 20
    return total


def _bad(limit: float) -> float:
    return max(_SIGNIFICANT, min(_TIMES_WORSE * limit, (1 + limit) / 2))


@cache
def _power(total: int, limit: float) -> float:
    """Probability that a version whose true share is :func:`_bad` meets the condition within ``total`` requests."""
    least = math.floor(limit * total) + 1
    while least <= total and _tail(least, total, limit) >= _SIGNIFICANT:
        least += 1
    return _tail(least, total, _bad(limit)) if least <= total else 0.0


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
