"""Can requests have been sent and answered when the driver says, by what models say of the same requests?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.evidence import CLOCKS_NS
from lab.checkers.revision_timeline import by_model, request
from lab.checkers.verdict import Outcome, Verdict, Violation

if TYPE_CHECKING:
    from lab.checkers.evidence import Driver, Evidence
    from lab.history import Record

NAME = "times"

DRIFT_NS = 1_000_000
"""How far two clocks may drift apart within :data:`WINDOW_NS`."""

WINDOW_NS = 1_000_000_000

_MS = 1e6


def check(evidence: Evidence) -> Verdict | None:
    """Compares when requests were sent and answered with when a model received and ended them.

    A request arrives after it was sent, and its answer comes after the model gave it. So in any second, a replica's
    clock is ahead of the driver's by at most the shortest way there, and behind it by at most the shortest way back.
    A request that came back sooner than the others allow was not answered, or they were not sent, when the driver says.
    No replica receives a request after it has ended it.
    Where all processes read one clock, a request also arrives after it was sent, and ends before its answer came.

    Returns:
        None if no replica could say when it received and ended an answered request.
    """
    judged = 0
    by_replica = sorted(_by_replica_and_window(evidence).items())
    violations = [*_backwards(evidence), *_outside(evidence, by_replica)]
    for (replica, _), flights in by_replica:
        judged += len(flights)
        ahead_ns = min(there_ns for there_ns, _, _ in flights)
        for _, back_ns, record in flights:
            if back_ns + ahead_ns < -DRIFT_NS:
                early = f"{-(back_ns + ahead_ns) / _MS:.1f} ms before {replica} can have answered it"
                message = f"{request(record)} was answered {early}, by when others reached it"
                violations.append(Violation(NAME, record.sequence, record.request_id, message))
    if violations:
        violations.sort(key=lambda one: one.sequence)
        return Verdict(
            NAME, Outcome.INVALID, f"{len(violations)} of {judged} answers came too early", tuple(violations)
        )
    return Verdict(NAME, Outcome.VALID, f"{judged} answers came after their models gave them") if judged else None


def _backwards(evidence: Evidence) -> Iterator[Violation]:
    for record in evidence.records:
        for each in evidence.attempts.get(record.request_id, ()):
            if 0 < each.ended_ns < each.arrived_ns - CLOCKS_NS:
                message = f"{request(record)}: {each.replica} ended it before it received it"
                yield Violation(NAME, record.sequence, record.request_id, message)


def _outside(
    evidence: Evidence, by_replica: Sequence[tuple[tuple[str, int], list[tuple[int, int, Record]]]]
) -> Iterator[Violation]:
    """Yields what a replica received or ended at a time at which the request was not under way, by one clock."""
    if not evidence.one_clock:
        return
    apart_ns = CLOCKS_NS + max(map(_error_ns, evidence.drivers), default=0)
    for (replica, _), flights in by_replica:
        for there_ns, back_ns, record in flights:
            if there_ns < -apart_ns or back_ns < -apart_ns:
                how = f"received it {-there_ns / _MS:,.1f} ms before it was sent"
                if back_ns < -apart_ns:
                    how = f"ended it {-back_ns / _MS:,.1f} ms after its answer came"
                message = f"{request(record)}: {replica} {how}, though both read one clock"
                yield Violation(NAME, record.sequence, record.request_id, message)


def _error_ns(driver: Driver) -> float:
    return ((driver.clock_error_ms or 0.0) + abs(driver.drift_ms or 0.0)) * _MS


def _by_replica_and_window(evidence: Evidence) -> dict[tuple[str, int], list[tuple[int, int, Record]]]:
    """Returns the requests that one replica received and answered, by replica and time of arrival.

    Of each its way to the model and back, each by both clocks, nanoseconds.
    """
    found: defaultdict[tuple[str, int], list[tuple[int, int, Record]]] = defaultdict(list)
    attempts = evidence.attempts
    for record in evidence.records:
        its = attempts.get(record.request_id, ()) if record.status == "OK" else ()
        if len(its) == 1 and its[0].status == "OK":
            [each] = its
            ways = (each.arrived_ns - record.sent_ns, record.done_ns - each.ended_ns, record)
            found[each.replica, each.arrived_ns // WINDOW_NS].append(ways)
    return found


def _absent(evidence: Evidence) -> bool:
    return any(map(by_model, evidence.records))


CHECKER = Checker(
    name=NAME,
    question="Can requests have been sent and answered when the driver says, by what models say of the same requests?",
    blind="latencies that are off by less than the shortest way to a replica and back in the same second",
    subject="an answer of which a replica says when it gave it",
    absent=_absent,
    check=check,
)
