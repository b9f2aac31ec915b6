"""Was each marked fault at work? One that was not explains no failure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.evidence import CLOCKS_NS
from lab.checkers.kinds.path import hops_in
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence, FaultEffect
    from lab.history import Record
    from lab.history.arrivals import Arrival

NAME = "faults"

AT_REST_NS = 5_000_000_000
"""Time after which no model receives any more what passed a unit before it was killed or frozen."""

LEAST = 20
"""Answers of a slowed replica of which at least one must have taken half of the time that was added.

Where each request draws its delay, half of them or more take that long, so none of 20 does in one of a million cases.
"""

OVERLOOKED = 1e-6
"""How likely none of a replica's requests may have been drawn to fail."""

_MS = 1_000_000


def check(evidence: Evidence) -> Verdict | None:
    """Looks at what units took while a fault of them was surely at work, see :class:`lab.checkers.FaultEffect`.

    - A unit that was killed or frozen takes no request: no model received one at it, or by way of it
      :data:`AT_REST_NS` later.
    - Of :data:`LEAST` answers of a slowed replica, one takes at least half of the time that was added.
    - A failing replica fails a request; judged once the probability that none of its requests fails is below
      :data:`OVERLOOKED`.

    Returns:
        None without such a fault, or if the replicas were not asked, which *answered* says.
    """
    marked = [(each, effect) for each in evidence.fault_windows if (effect := each.effect) is not None]
    if evidence.arrivals is None or not marked:
        return None
    taken = [(record, each) for record in evidence.records for each in evidence.attempts.get(record.request_id, ())]
    violations = []
    for fault_window, effect in marked:
        from_ns, until_ns = effect.from_ns + CLOCKS_NS, effect.until_ns - CLOCKS_NS
        during = [(record, each) for record, each in taken if from_ns < each.arrived_ns < until_ns]
        for unit in effect.units:
            record, how = _against(unit, effect, during)
            if record is not None:
                message = f"{record.use_case}: nothing happened when {fault_window.clause}: {unit} {how}"
                violations.append(Violation(NAME, record.sequence, record.request_id, message))
    if violations:
        violations.sort(key=lambda one: one.sequence)
        summary = f"{len(violations)} units were not hit by a fault that is marked"
        return Verdict(NAME, Outcome.INVALID, summary, tuple(violations))
    return Verdict(NAME, Outcome.VALID, f"{len(marked)} marked, each at work")


def _against(unit: str, effect: FaultEffect, during: Sequence[tuple[Record, Arrival]]) -> tuple[Record | None, str]:
    """Returns a request that the unit took otherwise than the fault lets it, and how; None if there is none."""
    own = [(record, each) for record, each in during if each.replica == unit]
    took = [each for _, each in own]
    if effect.adds_ms:
        wrong, how = _all_fast(took, effect.adds_ms), f"served all in less than {effect.adds_ms / 2:g} ms"
    elif effect.fails_share:
        wrong, how = _none_failed(took, effect.fails_share), f"failed none of {len(took)}"
    else:
        at_rest_ns = effect.from_ns + CLOCKS_NS + AT_REST_NS
        own += ((record, each) for record, each in during if each.arrived_ns > at_rest_ns and _passed(each, unit))
        wrong, how = bool(own), "took it"
    return (own[0][0], how) if wrong else (None, "")


def _all_fast(took: Sequence[Arrival], added_ms: float) -> bool:
    answers = [each.ended_ns - each.arrived_ns for each in took if each.status == "OK" and each.ended_ns]
    return len(answers) >= LEAST and max(answers) < added_ms * _MS / 2


def _none_failed(took: Sequence[Arrival], share: float) -> bool:
    statuses = Counter(each.status for each in took)
    return (1 - share) ** statuses["OK"] < OVERLOOKED and not statuses["INTERNAL"]


def _passed(arrival: Arrival, unit: str) -> bool:
    return any(hop.unit == unit for hop in hops_in(arrival.via))


CHECKER = Checker(
    name=NAME,
    question="Was each marked fault at work?",
    blind="faults other than a kill, a freeze, a delay and failing requests, and what few requests met",
    subject="a marked fault of which models must show an effect",
    claim=Claim.AVAILABILITY,
    check=check,
)
