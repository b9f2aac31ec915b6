"""Do the arrivals follow the process that the plan names, at its rate?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import expm1, floor, log, sqrt
from typing import TYPE_CHECKING, NamedTuple

from lab.checkers.checker import Checker
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence
    from lab.history import Record

NAME = "arrivals"

FALSE_ALARMS = 1e-6
"""Share of Poisson runs that the test of the distribution calls invalid; 5 sigma are 6e-7."""

SIGMAS = 5
LEAST_GAPS = 20
"""Below, even evenly spaced arrivals may pass as Poisson ones."""

_NS = 1e9
_ROUNDING_NS = 2  # both ends of a gap are rounded


def check(evidence: Evidence) -> Verdict | None:
    """Tests the gaps between the intended times, in the order of the sequence numbers.

    - ``constant``: each gap is 1 / rate, to a nanosecond for the rounding of each end.
    - ``poisson``: the gaps are exponential with the plan's rate by a Kolmogorov-Smirnov test. Its bound, valid for any
      number of gaps, is sqrt(ln(2 / a) / 2n) for a share a of false alarms (Dvoretzky-Kiefer-Wolfowitz, with Massart's
      constant). Their mean is 1 / rate, and probabilities of neighbouring gaps have no correlation, each to 5 sigma.

    The test sees the first gaps alone, as many as 5 sigma fewer than the plan expects: to stop at the end of the run
    would prefer short gaps.

    Returns:
        None for a trace, which claims no distribution, without a schedule, and with fewer than :data:`LEAST_GAPS` gaps.
    """
    plan = evidence.plan
    if plan is None or plan.kind == "trace":
        return None
    in_order = sorted(evidence.records, key=lambda record: record.sequence)
    expected = plan.rate * plan.duration_ns / _NS
    most = floor(expected - SIGMAS * sqrt(expected)) if plan.kind == "poisson" else len(in_order)
    neighbours = [(one, two) for one, two in pairwise(in_order[: max(most, 0)]) if two.sequence == one.sequence + 1]
    gaps = [(two.intended_ns - one.intended_ns) * plan.rate / _NS for one, two in neighbours]
    if len(gaps) < LEAST_GAPS:
        return None
    tested = _constant(gaps, plan.rate) if plan.kind == "constant" else _poisson(gaps)
    summary = f"{len(gaps)} gaps of {plan.kind} arrivals at {plan.rate:g} rps: {tested.text}"
    if tested.holds:
        return Verdict(NAME, Outcome.VALID, summary)
    return Verdict(NAME, Outcome.INVALID, summary, (_violation(neighbours[tested.place][1], tested.text),))


class _Tested(NamedTuple):
    """A test's outcome: in words, whether it holds, and the place of the gap that shows it best."""

    text: str
    holds: bool
    place: int


def _constant(gaps: Sequence[float], rate: float) -> _Tested:
    place = max(range(len(gaps)), key=lambda at: abs(gaps[at] - 1))
    off_ns = abs(gaps[place] - 1) * _NS / rate
    return _Tested(f"evenly spaced to {off_ns:.0f} ns", holds=off_ns < _ROUNDING_NS, place=place)


def _poisson(gaps: Sequence[float]) -> _Tested:
    apart, place = _distance(gaps)
    bound = sqrt(log(2 / FALSE_ALARMS) / (2 * len(gaps)))
    correlation, mean = _correlation(gaps), sum(gaps) / len(gaps)
    scatter = SIGMAS / sqrt(len(gaps))
    text = (
        f"{apart:.3f} from exponential, bound {bound:.3f}; mean {mean:.3f} / rate and correlation of neighbours "
        f"{correlation:+.3f}, bound {scatter:.3f}"
    )
    return _Tested(text, holds=apart <= bound and max(abs(correlation), abs(mean - 1)) <= scatter, place=place)


def _distance(gaps: Sequence[float]) -> tuple[float, int]:
    """Returns the largest distance of the gaps' distribution from the exponential one of mean 1, and its gap."""
    count = len(gaps)
    worst, place = 0.0, 0
    for rank, at in enumerate(sorted(range(count), key=gaps.__getitem__)):
        below = -expm1(-gaps[at])
        apart = max(below - rank / count, (rank + 1) / count - below)
        if apart > worst:
            worst, place = apart, at
    return worst, place


def _correlation(gaps: Sequence[float]) -> float:
    """Returns the correlation of each gap with the next, of their probabilities; 0 if all are equal."""
    around = [-expm1(-gap) - 0.5 for gap in gaps]
    mean = sum(around) / len(around)
    around = [each - mean for each in around]
    square = sum(each * each for each in around)
    return sum(one * two for one, two in pairwise(around)) / square if square else 0.0


def _violation(record: Record, text: str) -> Violation:
    return Violation(NAME, record.sequence, record.request_id, text)


CHECKER = Checker(
    name=NAME,
    question="Do the arrivals follow the process that the plan names, at its rate?",
    blind=f"traces, and runs of fewer than {LEAST_GAPS} arrivals",
    subject="20 constant or Poisson arrivals",
    claim=Claim.CORRECTNESS,
    check=check,
)
