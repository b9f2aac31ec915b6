"""Blast radius of one fault: which callers it hit, when the hits ended, and what they cost.

A request is *hit* if it failed, if another than the version chosen first answered it (a fallback, or the caller's own
default answer), or if it was slow: slower than :data:`SLOWER` times the steady p99 of its caller and than
:data:`NOTICED_MS`. Slow requests count only where a caller has far more of them than by chance (:data:`SLOW_SIGMA`), so
that a hiccup of the machine does not count as a hit.

Latency counts from the time when a request was due. The fault *lasts* from the start of its injection to the start of
its healing. A request in flight at the injection belongs to the fault unless it was slow already.

With too little evidence the radius is *unknown*, with the reason; it is never reported as empty.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from lab.history import UNSENT, Record
from lab.measure.binomial import least_trials, sigmas, tail

SLOWER = 3.0
"""A request is slow above this multiple of the steady p99."""

NOTICED_MS = 100.0
"""A request this fast feels immediate and is never slow (Nielsen, "Usability Engineering", 1993, chapter 5)."""

SLO = 0.999
"""Promised share of answered requests; the rest is the error budget."""

SLOW_SIGMA = 5.0
"""How unlikely it must be that a caller's slow requests are chance. A bench applies this to each caller, topology,
fault and round, a hundred times or so: at 3 sigma every other run of a faultless lab would report one as slow."""

ENDED_SIGMA = 3.0
"""How unlikely it must be that hits ended by chance, and not because traffic avoids the dead part."""

LEAST_REQUESTS = 10
"""Fewest requests of each caller, before and during a fault, for the radius to be known."""

MOST_LATE = 0.1
"""Largest share of requests that the driver may send too late for their latency to count."""

_NS, _NS_PER_MS = 1e9, 1e6
_P99 = 0.99
_CLEAR = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED"})


class Ending(StrEnum):
    """How hits ended while the fault still lasted."""

    AVOIDED = "avoided"
    """Traffic avoids the dead part: no request is hit."""
    REFUSED = "refused"
    """Requests are refused at once, with a status that their caller can act on."""
    OPEN = "open"
    """Neither, for as long as the fault lasted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault, from injection to the end of its effects. Times are Unix nanoseconds.

    Attributes:
        name: target and act, e.g. ``gateway-1 killed``.
        steady_ns: start of the undisturbed interval before it.
        inject_ns: when the injection began.
        heal_ns: when the healing began.
        until_ns: when the next fault began, or the run ended.
        bites: whether its effect was observed other than by requests.
        noticed_ns: when the control plane dropped the dead part; None if it did not, or was not watched.

    Raises:
        ValueError: the times are not in this order.
    """

    name: str
    steady_ns: int
    inject_ns: int
    heal_ns: int
    until_ns: int
    bites: bool = True
    noticed_ns: int | None = None

    def __post_init__(self) -> None:
        if not self.steady_ns <= self.inject_ns < self.heal_ns <= self.until_ns:
            raise ValueError(f"fault {self.name!r}: it is not steady, injected, healed and over in this order")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blast:
    """What one fault did to the requests of one topology.

    Attributes:
        unknown: why the radius is unknown; empty if it is known. If set, the other fields mean nothing.
        callers: callers that were hit while it lasted, of all that sent requests; likewise for tenants.
        hits: for each request while it lasted, in order of time, whether it was hit.
        failed: number of hit requests without an answer; ``degraded`` of those that another version or the default
            answer answered, ``slow`` of those with the right answer, too late.
        ending: how hits ended; None if no request was hit.
        detect_s: seconds from the injection until hits ended, infinite for :attr:`Ending.OPEN`; None without hits.
        noticed_s: seconds from the injection until the control plane dropped the dead part; None as in :class:`Fault`.
        heal_s: seconds from the start of the healing until the last hit request was due; infinite if requests were
            still hit when the next fault began. None without hits.
        window: number of requests from the injection to the end, ``window_failed`` of those without an answer.
    """

    fault: Fault
    unknown: str = ""
    callers: frozenset[str] = frozenset()
    of_callers: frozenset[str] = frozenset()
    tenants: frozenset[str] = frozenset()
    of_tenants: frozenset[str] = frozenset()
    hits: tuple[bool, ...] = ()
    failed: int = 0
    degraded: int = 0
    slow: int = 0
    ending: Ending | None = None
    detect_s: float | None = None
    noticed_s: float | None = None
    heal_s: float | None = None
    window: int = 0
    window_failed: int = 0

    @property
    def budget(self) -> float:
        """Error budget spent, as a multiple of what :data:`SLO` allows for the requests from injection to end."""
        return self.window_failed / (self.window * (1 - SLO)) if self.window else math.nan


def blast(records: Sequence[Record], fault: Fault, callers: Collection[str]) -> Blast:
    """The blast radius of a fault on one topology, by the records of all its callers in any order.

    Records outside the fault's time are ignored; too few requests of any of ``callers`` make the radius unknown.
    """
    ordered = sorted(records, key=lambda each: each.intended_ns)
    before = [each for each in ordered if fault.steady_ns <= each.intended_ns < fault.inject_ns]
    steady = [each for each in before if each.done_ns < fault.inject_ns and each.status != UNSENT]
    slow_ns = {name: max(SLOWER * _p99_ns(of), NOTICED_MS * _NS_PER_MS) for name, of in _by_caller(steady).items()}

    def overdue(record: Record, at_ns: int) -> bool:
        """Whether a request was already slow at that time, and still in flight."""
        return record.done_ns >= at_ns and at_ns - record.intended_ns > slow_ns.get(record.caller, math.inf)

    window = [
        each
        for each in ordered
        if (each.intended_ns >= fault.inject_ns or each.done_ns >= fault.inject_ns)
        and not overdue(each, fault.inject_ns)
        and _belongs(each, fault, overdue)
    ]
    held = [each for each in window if each.intended_ns < fault.heal_ns]
    hit_before = sum(_failed(each) or _degraded(each) for each in steady)
    hit_before += sum(overdue(each, fault.inject_ns) for each in before)
    reason = _too_little(steady, held, window, callers)
    if not reason and hit_before:
        reason = f"{hit_before} of {len(before)} requests were hit before it"
    if reason:
        return Blast(fault=fault, unknown=reason)
    judge = _Judge(slow_ns, steady, held)
    if judge.late > MOST_LATE * len(held):
        return Blast(fault=fault, unknown=f"the driver itself was late with {judge.late} of {len(held)} requests")
    hit = [each for each in held if judge.is_hit(each)]
    if not hit and not fault.bites:
        return Blast(fault=fault, unknown="no request was hit, and no other effect of the fault was observed")
    ending, detect_s = _ending(held, fault, judge) if hit else (None, None)
    return Blast(
        fault=fault,
        callers=frozenset(each.caller for each in hit),
        of_callers=frozenset(callers),
        tenants=frozenset(each.tenant for each in hit),
        of_tenants=frozenset(each.tenant for each in held),
        hits=tuple(map(judge.is_hit, held)),
        failed=sum(map(_failed, hit)),
        degraded=sum(map(_degraded, hit)),
        slow=sum(not _failed(each) and not _degraded(each) for each in hit),
        ending=ending,
        detect_s=detect_s,
        noticed_s=None if fault.noticed_ns is None else (fault.noticed_ns - fault.inject_ns) / _NS,
        heal_s=_heal_s(window, fault, judge) if hit else None,
        window=len(window),
        window_failed=sum(map(_failed, window)),
    )


class _Judge:
    """Decides which requests are hit. Of ``late`` ones, which the driver sent so late, the latency means nothing."""

    def __init__(self, slow_ns: Mapping[str, float], steady: Sequence[Record], held: Sequence[Record]) -> None:
        self._slow_ns = slow_ns
        self.late = sum(each.sent_ns - each.intended_ns > self._slow_ns[each.caller] for each in held)
        counts = {name: len(of) for name, of in _by_caller(steady).items()}
        self._slowed = {
            name
            for name, of in _by_caller(held).items()
            if _beyond_chance(sum(map(self._takes_long, of)), len(of), 1 / (counts[name] + 1))
        }

    def is_hit(self, record: Record) -> bool:
        """Whether a request failed, was answered by another version, or is slow beyond chance."""
        return _failed(record) or _degraded(record) or (record.caller in self._slowed and self._takes_long(record))

    def is_clear(self, record: Record) -> bool:
        """Whether a request is not hit, or was refused at once with a clear status."""
        refused = record.status in _CLEAR and record.done_ns - record.sent_ns <= self._slow_ns[record.caller]
        return refused or not self.is_hit(record)

    def _takes_long(self, record: Record) -> bool:
        slow_ns = self._slow_ns[record.caller]
        late = record.sent_ns - record.intended_ns > slow_ns  # by the driver
        return not late and record.done_ns - record.intended_ns > slow_ns


def _ending(held: Sequence[Record], fault: Fault, judge: _Judge) -> tuple[Ending, float]:
    """How and when hits ended, judged by the callers that were hit."""
    reached = {each.caller for each in held if judge.is_hit(each)}
    theirs = [each for each in held if each.caller in reached]
    for ending, is_over in ((Ending.AVOIDED, lambda each: not judge.is_hit(each)), (Ending.REFUSED, judge.is_clear)):
        last = _last(theirs, is_over)
        if last < 0:
            return ending, 0.0
        share = sum(not is_over(each) for each in theirs[: last + 1]) / (last + 1)
        # Enough in a row that chance hardly explains why none went to the dead part.
        if len(theirs) - last - 1 >= max(LEAST_REQUESTS, least_trials(min(share, 0.5), ENDED_SIGMA)):
            return ending, max(0.0, (theirs[last].intended_ns - fault.inject_ns) / _NS)
    return Ending.OPEN, math.inf


def _heal_s(window: Sequence[Record], fault: Fault, judge: _Judge) -> float:
    reached = {each.caller for each in window if judge.is_hit(each)}
    theirs = [each for each in window if each.intended_ns >= fault.heal_ns and each.caller in reached]
    last = _last(theirs, lambda each: not judge.is_hit(each))
    if len(theirs) - last - 1 < LEAST_REQUESTS:
        return math.inf
    return (theirs[last].intended_ns - fault.heal_ns) / _NS if last >= 0 else 0.0


def _last(records: Sequence[Record], is_good: Callable[[Record], bool]) -> int:
    """Index of the last record that is not good; -1 if all are."""
    return next((place for place in reversed(range(len(records))) if not is_good(records[place])), -1)


def _belongs(record: Record, fault: Fault, overdue: Callable[[Record, int], bool]) -> bool:
    """Whether a request counts for the fault: due before its end, and by then answered or slow."""
    due_ns, until_ns = record.intended_ns, fault.until_ns
    return due_ns < fault.heal_ns or (due_ns < until_ns and (record.done_ns < until_ns or overdue(record, until_ns)))


def _too_little(
    steady: Sequence[Record], held: Sequence[Record], window: Sequence[Record], callers: Collection[str]
) -> str:
    """Why the radius cannot be known; empty if it can."""
    if not callers:
        return "there was no caller"
    if any(each.status == UNSENT for each in window):
        return "a driver was stopped before it was over"
    before, during = _by_caller(steady), _by_caller(held)
    for name in sorted(callers):
        for when, of in (("before it", before), ("while it lasted", during)):
            count = len(of.get(name, ()))
            if count < LEAST_REQUESTS:
                return f"{name}: {count} requests {when}; {LEAST_REQUESTS} are needed"
    strangers = {each.caller for each in held} - set(callers)
    return f"{min(strangers)}: sent requests, but is none of the callers" if strangers else ""


def _by_caller(records: Sequence[Record]) -> Mapping[str, list[Record]]:
    result: dict[str, list[Record]] = {}
    for each in records:
        result.setdefault(each.caller, []).append(each)
    return result


def _beyond_chance(count: int, trials: int, share: float) -> bool:
    return count > trials * share and sigmas(tail(count, trials, share)) >= SLOW_SIGMA


def _failed(record: Record) -> bool:
    return record.status != "OK"


def _degraded(record: Record) -> bool:
    return record.status == "OK" and record.source != "model"


def _p99_ns(records: Sequence[Record]) -> float:
    """Nearest rank."""
    ordered = sorted(each.done_ns - each.intended_ns for each in records)
    return float(ordered[max(1, math.ceil(len(ordered) * _P99 - 1e-9)) - 1])
