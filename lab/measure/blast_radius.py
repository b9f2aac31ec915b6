"""Blast radius of one fault: whom it reached, when that was over or clear, and what it cost.

A request is *hit* if it failed, if another than the version chosen first answered it (a fallback, or the caller's own
default answer), or if it was slow: later than :data:`SLOWER` times the steady p99 of its caller, and than people notice
(:data:`NOTICED_MS`). Slow ones count only where a caller has far more of them than chance gives (:data:`SLOW_SIGMA`): a
hiccup of the machine is no fault.

Times count from when a request was due. *While it lasted* is from the beginning of the injection to the beginning of
the healing; a request that was under way when the injection began belongs to it, unless it was slow already: that is
still the doing of what was before.

Where there is too little to tell by, what a fault did is *unknown*, with the reason; never nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from lab.history import UNSENT
from lab.measure.binomial import least_trials, sigmas, tail

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from lab.history import Record

SLOWER = 3.0
"""Times the steady p99: what takes longer is slow."""

NOTICED_MS = 100.0
"""What takes no longer feels immediate, and is never slow (Nielsen, "Usability Engineering", 1993, chapter 5)."""

SLO = 0.999
"""Share of requests that may be expected to be answered; the rest is the error budget."""

SLOW_SIGMA = 5.0
"""How unlikely it must be that a caller's slow requests are chance. A bench asks so of each caller, topology, fault and
round, some hundred times: at 3 sigma one of them would be called slow in every other run of a faultless lab."""

ENDED_SIGMA = 3.0
"""How unlikely it must be that hits have ended by chance, and not because the dead part is left alone."""

LEAST_REQUESTS = 10
"""Of each caller, before and while it lasted: with fewer nothing is known."""

MOST_LATE = 0.1
"""Share of requests that the driver itself may have sent too late for their latency to tell anything."""

_NS, _NS_PER_MS = 1e9, 1e6
_P99 = 0.99
_CLEAR = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED"})


class Ending(StrEnum):
    """How hits came to an end while the fault still lasted."""

    AVOIDED = "avoided"
    """No traffic goes to the dead part any more: nothing is hit."""
    REFUSED = "refused"
    """What is hit is refused at once, with a clear status: its caller can act on it."""
    OPEN = "open"
    """Neither, for as long as it lasted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault that came and went. Times are Unix nanoseconds.

    Attributes:
        name: what was done to what.
        steady_ns: from when on all was well before it.
        inject_ns: when the injection began.
        heal_ns: when the healing began.
        until_ns: when the next fault, or nothing more, followed.
        bites: whether it was seen, other than by requests, that the fault was there.
        noticed_ns: when the control plane no longer counted on the dead part; None if nobody looked, or it never did.

    Raises:
        ValueError: they are not in this order.
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
        fault: what was done.
        unknown: why nothing is known; empty if something is. Then the others say nothing.
        callers: those hit while it lasted.
        of_callers: all that sent.
        tenants: those hit.
        of_tenants: all that requests were for.
        hits: for each request while it lasted, in the order of time, whether it was hit.
        failed: of those hit, how many had no answer.
        degraded: how many had another's.
        slow: how many had the right one, late.
        ending: how hits came to an end; None if nothing was hit.
        detect_s: from the injection until then, infinite for :attr:`Ending.OPEN`; None if nothing was hit.
        noticed_s: from the injection until the control plane knew; None as in :class:`Fault`.
        heal_s: from the beginning of the healing until the last request that was hit was due; infinite if requests
            were still hit when the next fault came. None if nothing was hit.
        window: requests from the injection to the end.
        window_failed: of those, how many had no answer.
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
    """What a fault did.

    Args:
        records: of one topology and all its callers, in any order; those outside the fault's time are left alone.
        fault: with its times.
        callers: all that were to send; one of whom there is too little makes the whole unknown.
    """
    ordered = sorted(records, key=lambda each: each.intended_ns)
    before = [each for each in ordered if fault.steady_ns <= each.intended_ns < fault.inject_ns]
    steady = [each for each in before if each.done_ns < fault.inject_ns and each.status != UNSENT]
    slow_ns = {name: max(SLOWER * _p99_ns(of), NOTICED_MS * _NS_PER_MS) for name, of in _by_caller(steady).items()}

    def overdue(record: Record, at_ns: int) -> bool:
        """Whether it was slow by then, and still under way."""
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
        reason = f"the driver itself was late with {judge.late} of {len(held)} requests"
        return Blast(fault=fault, unknown=reason)
    hit = [each for each in held if judge.is_hit(each)]
    if not hit and not fault.bites:
        return Blast(fault=fault, unknown="no request was hit, and nobody saw the fault bite")
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
    """Says which requests are hit.

    Attributes:
        late: requests that the driver sent later than what is slow, so that nobody can tell how fast they were.
    """

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
        """Whether it failed, was answered by another, or is slow beyond chance."""
        return _failed(record) or _degraded(record) or (record.caller in self._slowed and self._takes_long(record))

    def is_clear(self, record: Record) -> bool:
        """Whether it is not hit, or refused at once and with a status that says why."""
        refused = record.status in _CLEAR and record.done_ns - record.sent_ns <= self._slow_ns[record.caller]
        return refused or not self.is_hit(record)

    def _takes_long(self, record: Record) -> bool:
        slow_ns = self._slow_ns[record.caller]
        late = record.sent_ns - record.intended_ns > slow_ns  # the driver's own fault
        return not late and record.done_ns - record.intended_ns > slow_ns


def _ending(held: Sequence[Record], fault: Fault, judge: _Judge) -> tuple[Ending, float]:
    """How and when hits ended, as those see it whom they reached."""
    reached = {each.caller for each in held if judge.is_hit(each)}
    theirs = [each for each in held if each.caller in reached]
    for ending, is_over in ((Ending.AVOIDED, lambda each: not judge.is_hit(each)), (Ending.REFUSED, judge.is_clear)):
        last = _last(theirs, is_over)
        if last < 0:
            return ending, 0.0
        share = sum(not is_over(each) for each in theirs[: last + 1]) / (last + 1)
        # So many in a row that it can hardly be chance that the dead part was not met.
        if len(theirs) - last - 1 >= max(LEAST_REQUESTS, least_trials(min(share, 0.5), ENDED_SIGMA)):
            return ending, max(0.0, (theirs[last].intended_ns - fault.inject_ns) / _NS)
    return Ending.OPEN, math.inf


def _heal_s(window: Sequence[Record], fault: Fault, judge: _Judge) -> float:
    after = [each for each in window if each.intended_ns >= fault.heal_ns]
    reached = {each.caller for each in window if judge.is_hit(each)}
    theirs = [each for each in after if each.caller in reached]
    last = _last(theirs, lambda each: not judge.is_hit(each))
    if len(theirs) - last - 1 < LEAST_REQUESTS:
        return math.inf
    return (theirs[last].intended_ns - fault.heal_ns) / _NS if last >= 0 else 0.0


def _last(records: Sequence[Record], is_good: Callable[[Record], bool]) -> int:
    """Place of the last that is not good; -1 if all are."""
    return next((place for place in reversed(range(len(records))) if not is_good(records[place])), -1)


def _belongs(record: Record, fault: Fault, overdue: Callable[[Record, int], bool]) -> bool:
    """Whether it was due before the end; what is still under way then, and not yet slow, is for what comes next."""
    due_ns, until_ns = record.intended_ns, fault.until_ns
    return due_ns < fault.heal_ns or (due_ns < until_ns and (record.done_ns < until_ns or overdue(record, until_ns)))


def _too_little(
    steady: Sequence[Record], held: Sequence[Record], window: Sequence[Record], callers: Collection[str]
) -> str:
    """Why nothing can be known; empty if it can."""
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
