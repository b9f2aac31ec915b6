"""Did the driver send the planned requests at their planned times? If not, latencies may show its own slowness."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt
from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.verdict import Claim, Outcome, Verdict
from lab.history import UNSENT, Record

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence

NAME = "driver"

RATE_TOLERANCE = 0.01
_SIGMAS = 5
_NS_PER_S = 1e9
_NS_PER_MS = 1e6


def check(evidence: Evidence) -> Verdict:
    """Compares the achieved rate with the offered one, and checks the schedule delay. Never invalid.

    Up to the last request that was sent, the achieved rate must agree with that of the intended times to 1 %. The rate
    of all intended times must agree with the plan's to 1 % or to five standard deviations of a Poisson process (5/√n),
    whichever is wider.

    Interactive and closed-loop runs have no offered rate; only sent and intended times are compared. The summary names
    a closed loop: it asks a slow server less often, so its latencies are not those of an open loop at that rate.

    Returns:
        Unknown if the driver missed its rate, sent with a schedule delay above the plan's bound at the 99th
        percentile, or sent too little to have a rate.
    """
    sent = [record for record in evidence.records if record.status != UNSENT]
    intended_rate = _rate([record.intended_ns for record in evidence.records])
    due_rate, achieved_rate = rates(evidence.records)
    if intended_rate is None or due_rate is None or achieved_rate is None:
        kind = f"{_kind(evidence)}: " if evidence.offered_rate is None else ""
        return Verdict(NAME, Outcome.UNKNOWN, f"{kind}{len(sent)} sent: too few to have a rate")
    delay_ms = _p99([record.sent_ns - record.intended_ns for record in sent]) / _NS_PER_MS
    scatter = max(RATE_TOLERANCE, _SIGMAS / sqrt(len(evidence.records)))
    doubts = []
    offered = evidence.offered_rate
    if offered is not None and abs(intended_rate - offered) > scatter * offered:
        doubts.append(f"the arrivals amount to {intended_rate:.1f} rps of the offered {offered:.1f}")
    if abs(achieved_rate - due_rate) > RATE_TOLERANCE * due_rate:
        doubts.append(f"the driver missed its rate by more than {RATE_TOLERANCE:.0%}")
    if delay_ms > evidence.schedule_delay_bound_ms:
        doubts.append(f"the schedule delay is above its bound of {evidence.schedule_delay_bound_ms:g} ms")
    wanted = f"{_kind(evidence)}: no offered rate, intended" if offered is None else "offered"
    measured = f"{wanted} {due_rate:.1f} rps, achieved {achieved_rate:.1f}; schedule delay p99 {delay_ms:.2f} ms"
    outcome = Outcome.UNKNOWN if doubts else Outcome.VALID
    return Verdict(NAME, outcome, "; ".join([*doubts, measured]))


def rates(records: Sequence[Record]) -> tuple[float | None, float | None]:
    """Returns the rates at which requests were due and were sent, per second; None if there are too few.

    Requests that were due after the last one that was sent do not count: the driver had been stopped.
    """
    sent = [record for record in records if record.status != UNSENT]
    last_ns = max((record.intended_ns for record in sent), default=0)
    due = [record.intended_ns for record in records if record.intended_ns <= last_ns]
    return _rate(due), _rate([record.sent_ns for record in sent])


def _kind(evidence: Evidence) -> str:
    return evidence.paced_by or ("closed loop (users wait for answers)" if evidence.closed_loop else "steered by hand")


def _rate(times_ns: Sequence[int]) -> float | None:
    span_ns = max(times_ns) - min(times_ns) if times_ns else 0
    return (len(times_ns) - 1) * _NS_PER_S / span_ns if span_ns > 0 else None


def _p99(values: Sequence[int]) -> int:
    return sorted(values)[ceil(0.99 * len(values)) - 1]


CHECKER = Checker(
    name=NAME,
    question="Did the driver send the planned requests at their planned times?",
    blind=f"delays below the plan's bound at the 99th percentile, and rates off by less than {RATE_TOLERANCE:.0%}",
    claim=Claim.TIMING,
    check=check,
)
