"""Finds the highest rate that a lab and its driver sustain, and says what breaks above it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.bounds import RATE
from lab.checkers import Claim, Outcome
from lab.runs.judging import round_rate_below

if TYPE_CHECKING:
    from lab.runs.judging import RunResult

STEP = 1.5
"""Factor from each rate to the next, until one breaks."""
DOWN = 2.0
"""Divisor from each rate to the next below, where the first one breaks, until one holds."""
MOST_DOWN = 5
"""Rates below the first one that are tried."""
HALVINGS = 2
"""Rates between the last that held and the first that broke, each in the middle of what is left."""
ANSWERED = 0.999
"""Share of requests that must be answered, unless another objective is given."""
SLOWER = 5.0
"""Factor by which the p99 may exceed that of the first rate that held, unless a bound is given."""


_OF_RECORDS = ("accounting", "drivers")
"""Checkers of whether all requests were sent and recorded."""


class Broken(StrEnum):
    """What a rate breaks."""

    NOTHING = ""
    SLO = "slo"
    DRIVER = "driver"
    ROUTING = "routing"


@dataclass(frozen=True, slots=True)
class Objective:
    """What must hold at a rate.

    Attributes:
        answered: share of requests that must be answered, 0 to 1.
        p99_ms: bound of the 99th percentile, from the intended times; None for :data:`SLOWER` times that of the
            first rate that held.
    """

    answered: float = ANSWERED
    p99_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One rate, and how its run went.

    Attributes:
        rate: that was asked for, requests per second.
        answered: share of the requests that were sent, 0 to 1.
        broken: what the rate breaks; the next says why.
    """

    rate: float
    achieved_rate: float
    answered: float
    p50_ms: float
    p99_ms: float
    schedule_delay_p99_ms: float
    broken: Broken
    because: str
    run_dir: Path


@dataclass(frozen=True, slots=True)
class Knee:
    """What was found.

    Attributes:
        steps: in the order in which they were run.
    """

    steps: Sequence[Step]

    @property
    def holds(self) -> float:
        """The highest rate that held; 0 if none did."""
        return max((step.rate for step in self.steps if not step.broken), default=0.0)

    @property
    def first_broken(self) -> Step | None:
        """The lowest rate that broke; None if none did."""
        return min((step for step in self.steps if step.broken), key=lambda step: step.rate, default=None)

    @property
    def outcome(self) -> Outcome:
        """Valid if the objective broke, unknown if the driver did or nothing did, invalid if answers were wrong."""
        if any(step.broken is Broken.ROUTING for step in self.steps):
            return Outcome.INVALID
        first = self.first_broken
        return Outcome.VALID if first is not None and first.broken is Broken.SLO else Outcome.UNKNOWN

    @property
    def sentence(self) -> str:
        """The answer in words, with a remedy where it is none."""
        first = self.first_broken
        if first is None:
            return f"Nothing breaks up to {self.holds:g} rps; start higher: `--rate {round_rate_below(self.holds):g}`."
        holds = f"{self.holds:g} rps hold, " if self.holds else "no rate holds, "
        match first.broken:
            case Broken.DRIVER:
                return f"{holds}and at {first.rate:g} the driver breaks: {first.because}; try `--drivers`."
            case Broken.ROUTING:
                return f"{holds}and at {first.rate:g} answers are wrong: {first.because}."
            case _:
                return f"{holds}and {first.rate:g} break the objective: {first.because}."

    def to_document(self) -> dict[str, Any]:
        """As a JSON object."""
        first = self.first_broken
        return {
            "holds_rps": self.holds,
            "breaks_rps": None if first is None else first.rate,
            "broken": "" if first is None else str(first.broken),
            "because": "" if first is None else first.because,
            "verdict": str(self.outcome),
            "steps": [{**asdict(step), "run_dir": str(step.run_dir)} for step in self.steps],
        }


def find_knee(
    run: Callable[[float], RunResult],
    rate: float,
    objective: Objective,
    on_step: Callable[[Step], None] = lambda _: None,
    *,
    highest: float = RATE.high,
) -> Knee:
    """Raises the rate until one breaks, then halves what is left between the last two.

    Where the first rate breaks, lowers it until one holds; but not where answers are wrong, which no rate excuses.

    Args:
        run: drives a run at a rate, requests per second, and judges it.
        rate: the first.
        objective: what must hold.
        on_step: called after each run.
        highest: where to stop if nothing breaks.
    """
    steps: list[Step] = []

    def holds(at: float) -> bool:
        bound = objective
        if bound.p99_ms is None:
            first = next((step.p99_ms for step in steps if not step.broken), None)
            bound = replace(objective, p99_ms=first and SLOWER * first)
        steps.append(step_of(at, run(at), bound))
        on_step(steps[-1])
        return not steps[-1].broken

    good, bad = 0.0, rate
    while holds(bad):
        if bad >= highest:
            return Knee(steps)
        good, bad = bad, min(highest, bad * STEP)
    for _ in range(0 if good else MOST_DOWN):
        if steps[-1].broken is Broken.ROUTING or bad / DOWN < RATE.low:
            break
        if holds(bad / DOWN):
            good = bad / DOWN
            break
        bad /= DOWN
    for _ in range(HALVINGS if good else 0):
        middle = (good + bad) / 2
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    return Knee(steps)


def step_of(rate: float, result: RunResult, objective: Objective) -> Step:
    """What one run says of its rate.

    Wrong answers count first. Where the driver was late, or has not recorded all requests, neither latencies nor
    failures count: a request that is sent late may also fail for that.
    """
    summary = result.summary
    sent = summary.ok + summary.failed
    answered = summary.ok / sent if sent else 0.0
    broken, because = Broken.NOTHING, ""
    if result.claims[Claim.CORRECTNESS] is Outcome.INVALID:
        broken, because = Broken.ROUTING, result.doubt(Claim.CORRECTNESS)
    elif doubt := _doubt_of_driver(result):
        broken, because = Broken.DRIVER, doubt
    elif answered < objective.answered:
        broken, because = Broken.SLO, f"{answered:.2%} answered, of at least {objective.answered:.2%}"
    elif objective.p99_ms is not None and summary.p99_ms > objective.p99_ms:
        broken, because = Broken.SLO, f"p99 {summary.p99_ms:.1f} ms, bound {objective.p99_ms:.1f} ms"
    return Step(
        rate=rate,
        achieved_rate=summary.achieved_rate,
        answered=answered,
        p50_ms=summary.p50_ms,
        p99_ms=summary.p99_ms,
        schedule_delay_p99_ms=summary.schedule_delay_p99_ms,
        broken=broken,
        because=because,
        run_dir=result.folder,
    )


def _doubt_of_driver(result: RunResult) -> str:
    """Why the run says nothing of the lab; empty if it does."""
    judges = [each for each in result.verdicts if each.claim is Claim.TIMING or each.checker in _OF_RECORDS]
    doubts = [each.summary.partition(";")[0] for each in judges if each.outcome is not Outcome.VALID]
    return doubts[0] if doubts else "" if judges else "no checker has judged the driver"
