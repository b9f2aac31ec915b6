"""Abort conditions of a rollout: pure functions from a step's evidence to met, not met, or unknown.

A condition is met if, with a true share at the limit, as many bad requests would occur in fewer than one of a hundred
cases (exact binomial tail). It is not met if :func:`enough` requests were seen and their share is within the limit.
Otherwise it is unknown. With enough requests, a version whose true share is five times the limit meets the condition
in nine of ten cases (the test's power).

A busy machine makes all requests late, in bursts, or fail. So a latency condition is met only if, in addition, the new
version was late in more of the windows of 0.2 s than the *control*, with equally many requests of both in each window
(sign test, one of a thousand cases; from one of twenty on it is not settled); and while the driver is late, an error
rate only if the new version failed more often than the control. The control is the old version; at 100 %, where that
gets no requests, another use case by the same path, and what is late for each is found by the step before. Such bursts
must not hide a slow version either: answers are late by the *usual* p99.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cache
from itertools import chain
from statistics import median
from typing import Any

from lab.errors import InputError

DEFAULT_CONDITIONS = "error-rate>1%,p99>1.5x,misroutes>0"

_LEAST = 20
_SIGNIFICANT = 0.01
_SIGNIFICANT_WINDOWS, _SUSPECT_WINDOWS = 0.001, 0.05
_POWER = 0.9
_TIMES_WORSE = 5
_P99_SHARE = 0.01
PATIENCE = 5
"""More than this many times the requests that are enough do not help."""
WINDOW_NS = 200_000_000
_HALF_ABOVE_P99 = 69
_ROUNDED_UP = 0.995


class Standing(StrEnum):
    """Result of judging a condition; ``met`` aborts the rollout."""

    MET = "met"
    NOT_MET = "not met"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts and latencies of requests: of those that the rules sent to one version, or of a control.

    Attributes:
        requests: number of requests.
        errors: number of those that were not answered by it.
        latencies_ms: of those that were, sorted, in ms.
        by_window_ms: the same in the order in which they were due, by window of :data:`WINDOW_NS`.
    """

    requests: int = 0
    errors: int = 0
    latencies_ms: Sequence[float] = field(default=(), repr=False)
    by_window_ms: Mapping[int, Sequence[float]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, errors: int, answered_ms: Iterable[tuple[int, float]]) -> Figures:
        """Figures of answers, each with the time at which it was due, ns, and its latency, ms."""
        windows: dict[int, list[float]] = {}
        for due_ns, ms in sorted(answered_ms):
            windows.setdefault(due_ns // WINDOW_NS, []).append(ms)
        latencies_ms = sorted(chain.from_iterable(windows.values()))
        return cls(len(latencies_ms) + errors, errors, latencies_ms, windows)

    @property
    def p99_ms(self) -> float:
        """99th percentile by nearest rank, ms; 0 if it answered none."""
        return self.latencies_ms[-(-len(self.latencies_ms) * 99 // 100) - 1] if self.latencies_ms else 0.0

    @property
    def usual_p99_ms(self) -> float:
        """The same as the median of the longest of each 69 answers in turn, ms: a stall is in few of them.

        The longest of 69 is above the 99th percentile in half of all cases.
        """
        in_turn = [ms for window in sorted(self.by_window_ms) for ms in self.by_window_ms[window]]
        size = _HALF_ABOVE_P99
        starts = range(0, max(1, len(in_turn) - size + 1), size)  # whole parts, or the only one
        return median(max(in_turn[start : start + size], default=0.0) for start in starts)

    @property
    def error_rate(self) -> float:
        """Share of requests that failed, 0 to 1; 0 without requests."""
        return self.errors / self.requests if self.requests else 0.0

    def with_more(self, other: Figures) -> Figures:
        """The sum of both, which were at different times."""
        return Figures(
            self.requests + other.requests,
            self.errors + other.errors,
            sorted([*self.latencies_ms, *other.latencies_ms]),
            {**self.by_window_ms, **other.by_window_ms},
        )


@dataclass(frozen=True, slots=True)
class Evidence:
    """Measurements of one step.

    Attributes:
        new: figures of the new version.
        old: figures of the old versions.
        other: figures of another use case by the same path, which the rollout does not change.
        before: at 100 %, where the old version gets no requests: the step before.
        misroutes: number of answers that no rule allowed; None if that is unknown.
        judged: number of requests whose answers were judged for that.
        late: whether the driver was late, as on a busy machine.
        objections: what checkers object to that no condition judges.
    """

    new: Figures = Figures()
    old: Figures = Figures()
    other: Figures = Figures()
    before: Evidence | None = None
    misroutes: int | None = 0
    judged: int = 0
    late: bool = False
    objections: tuple[str, ...] = ()

    @property
    def control(self) -> Figures:
        """What the new version is compared with at the same time."""
        return self.other if self.before else self.old

    def with_more(self, other: Evidence) -> Evidence:
        """The sum of both."""
        unknown = self.misroutes is None or other.misroutes is None
        return Evidence(
            self.new.with_more(other.new),
            self.old.with_more(other.old),
            self.other.with_more(other.other),
            self.before,
            None if unknown else (self.misroutes or 0) + (other.misroutes or 0),
            self.judged + other.judged,
            self.late or other.late,
            (*self.objections, *other.objections),
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """What a condition measured.

    Attributes:
        because: the figures, in words.
        requests: number of requests that it was judged by.
        over: whether the new version is over the limit, though perhaps no worse than the control.
        settled: whether more requests like these cannot change the standing.
    """

    standing: Standing
    because: str
    requests: int
    over: bool = False
    settled: bool = True


@dataclass(frozen=True, slots=True)
class Judgement:
    """The result of judging one condition.

    Attributes:
        power: probability, 0 to 1, that this many requests reveal a version of the share ``bad``.
        bad: five times the limit, as a share of requests, 1 % at least.
        compares: see there.
    """

    condition: str
    found: Finding
    power: float
    bad: float
    compares: bool

    @property
    def standing(self) -> Standing:
        """Of the condition."""
        return self.found.standing

    @property
    def because(self) -> str:
        """The figures, in words."""
        return self.found.because

    def __str__(self) -> str:
        """In words, e.g. ``error rate of the new version 0 % ≤ 1 %; n = 1,012, power 100 % against 5 %``."""
        found = self.found
        return f"{found.because}; n = {found.requests:,}, power {percent(self.power)} against {percent(self.bad)}"

    def to_document(self) -> dict[str, Any]:
        """As ``lab roll --json`` prints it."""
        found = asdict(self.found)
        return {"condition": self.condition, **found, "power": self.power, "bad": self.bad}


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that aborts a rollout.

    Attributes:
        text: as it was written, e.g. ``error-rate>1%``.
        limit: the number in it.
        share: the limit as a share of requests, 0 to 1.
        measure: judges a step's evidence by limit and share.
    """

    text: str
    limit: float
    share: float
    measure: Callable[[Evidence, float, float], Finding]

    def judge(self, evidence: Evidence) -> Judgement:
        """Judges the evidence of a step."""
        found = self.measure(evidence, self.limit, self.share)
        power, bad = _power(found.requests, self.share), _bad(self.share)
        return Judgement(self.text, found, power, bad, self.compares)

    @property
    def compares(self) -> bool:
        """Whether it compares versions."""
        return self.measure is _p99_ratio


def percent(share: float) -> str:
    """A share of requests in words, two digits: ``0.25 %``."""
    return f"{100 * share:.2g} %" if share < _ROUNDED_UP else f"{100 * share:.0f} %"


def _error_rate(evidence: Evidence, limit: float, share: float) -> Finding:
    """``error-rate>1%``: the new version fails more than this share of its requests."""
    new, control = evidence.new, evidence.control
    over = new.error_rate > share
    because = f"error rate of the new version {percent(new.error_rate)} {'>' if over else '≤'} {limit:g} %"
    standing = _standing(new.errors, new.requests, share)
    if over and evidence.late and control.requests:
        every = new.requests + control.requests
        no_worse = _tail(new.errors, new.errors + control.errors, new.requests / every) >= _SIGNIFICANT
        because += f", {'not clearly worse than' if no_worse else 'worse than'} {_control_of(evidence)}'s "
        because += percent(control.error_rate)
        if no_worse:
            standing = _as_bad_as_the_control(new.requests, share)
    return Finding(standing, because, new.requests, over, settled=standing is not Standing.UNKNOWN)


def _p99_ratio(evidence: Evidence, times: float, share: float) -> Finding:
    """``p99>1.5x``: more than 1 % of answers take longer than 1.5 times the old version's p99."""
    new, old = evidence.new, (evidence.before or evidence).old
    answered = len(new.latencies_ms)
    if missing := _nothing_to_compare(evidence, share):
        return Finding(Standing.UNKNOWN, missing[0], answered, settled=missing[1])
    usual_ms = old.usual_p99_ms
    limit_ms = times * usual_ms
    late, by_chance = sum(each > limit_ms for each in new.latencies_ms), 1.0
    over = late / answered if answered else 0.0
    because = (
        f"p99 {new.p99_ms:.2f} ms, usually {usual_ms:.2f} ms of the old version; {percent(over)} "
        f"{'>' if over > share else '≤'} {percent(share)} took longer than {times:g} times that"
    )
    standing = _standing(late, answered, share)
    if over > share:
        limits_ms = limit_ms, times * (evidence.before.other if evidence.before else old).usual_p99_ms
        windows, only_new, only_control = _late_windows(new, evidence.control, limits_ms)
        because += f"; in {only_new} of {windows} windows only the new version did, in {only_control} only "
        because += f"{_control_of(evidence)} (n = {len(evidence.control.latencies_ms):,})"
        by_chance = _tail(only_new, only_new + only_control, 0.5)
        if by_chance >= _SIGNIFICANT_WINDOWS:
            standing = _as_bad_as_the_control(answered, share)
    settled = standing is Standing.MET or (standing is Standing.NOT_MET and by_chance >= _SUSPECT_WINDOWS)
    return Finding(standing, because, answered, over > share, settled)


def _control_of(evidence: Evidence) -> str:
    return "other use cases" if evidence.before else "the old version"


def _nothing_to_compare(evidence: Evidence, share: float) -> tuple[str, bool] | None:
    """Why latencies cannot be compared yet, and whether more requests will not help; None if they can be."""
    before = evidence.before
    old = (before or evidence).old
    if len(old.latencies_ms) < _LEAST:
        return f"the old version answered only {len(old.latencies_ms)} requests", bool(before) or not old.requests
    if before:
        if not evidence.other.requests:
            return "no other use case to compare with gets requests at the same time", True
        least = min(len(evidence.other.latencies_ms), len(before.other.latencies_ms))
        if least < enough(share):
            settled = len(before.other.latencies_ms) == least
            return f"other use cases, to compare with, had only {least} answers of {enough(share)}", settled
    return None


def _late_windows(new: Figures, control: Figures, limits_ms: tuple[float, float]) -> tuple[int, int, int]:
    """How many windows have answers of both; in how many only the new version was late, and only the control.

    In each window equally many answers of both count, the first ones: more would more often have a late one.
    """
    windows = new.by_window_ms.keys() & control.by_window_ms.keys()
    only_new = only_control = 0
    for window in windows:
        pairs = list(zip(new.by_window_ms[window], control.by_window_ms[window], strict=False))
        is_late = [max(values) > limit for values, limit in zip(zip(*pairs, strict=True), limits_ms, strict=True)]
        only_new += is_late == [True, False]
        only_control += is_late == [False, True]
    return len(windows), only_new, only_control


def _misroutes(evidence: Evidence, most: float, _share: float) -> Finding:
    """``misroutes>0``: answers that no rule in force allowed."""
    found = evidence.misroutes
    if found is None:
        because = "the routing checker could not judge every answer"
        return Finding(Standing.UNKNOWN, because, evidence.judged, settled=False)
    standing, sign = (Standing.MET, ">") if found > most else (Standing.NOT_MET, "≤")
    return Finding(standing, f"{found} misrouted {sign} {most:g}", evidence.judged, found > most)


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


def _as_bad_as_the_control(total: int, limit: float) -> Standing:
    """Both have a share over the limit, as on a busy machine: more requests may tell them apart."""
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
