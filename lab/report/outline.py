"""The verdicts in short, at the top of a report: a line for each run and bench, and all claims that do not hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.measure.findings import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.measure.findings import Claim
    from lab.report.bench import ReportedBench
    from lab.report.run import ReportedRun

_WORDS = {State.HOLDS: "valid", State.FAILS: "invalid", State.UNKNOWN: "unknown"}


@dataclass(frozen=True, slots=True)
class OutlinedRun:
    """One run.

    Attributes:
        reasons: one from each checker that does not find it valid.
    """

    run: ReportedRun
    reasons: Sequence[str]


@dataclass(frozen=True, slots=True)
class OutlinedBench:
    """One bench.

    Attributes:
        outcome: ``valid`` if every claim holds, ``invalid`` if one does not, else ``unknown``; empty without claims.
        counts: e.g. ``9 claims hold, 1 does not hold``.
        others: claims that do not hold or are unknown, each with its outcome.
        broken: doubts of controls that found a difference where none exists.
    """

    bench: ReportedBench
    outcome: str
    counts: str
    others: Sequence[tuple[str, Claim]]
    broken: Sequence[str]


@dataclass(frozen=True, slots=True)
class Outline:
    """All runs and benches of a report."""

    runs: Sequence[OutlinedRun]
    benches: Sequence[OutlinedBench]


def outline(runs: Sequence[ReportedRun], benches: Sequence[ReportedBench]) -> Outline:
    """Collects verdicts and reasons."""
    return Outline([OutlinedRun(run, _reasons(run)) for run in runs], [_bench(bench) for bench in benches])


def _reasons(run: ReportedRun) -> list[str]:
    wrong = [each for each in run.result.verdicts if each.outcome != "valid"]
    return [f"{each.checker}: {each.summary}" for each in wrong]


def _bench(bench: ReportedBench) -> OutlinedBench:
    states = Counter(claim.state for claim in bench.claims)
    broken = [control.doubt for control in bench.controls if control.doubt]
    outcome = ""
    if bench.claims:
        worst = next(state for state in (State.FAILS, State.UNKNOWN, State.HOLDS) if states[state])
        outcome = _WORDS[worst]
    return OutlinedBench(
        bench,
        outcome,
        ", ".join(_counted(states[state], state) for state in State if states[state])
        or "measures only, makes no claims",
        [(_WORDS[claim.state], claim) for claim in bench.claims if claim.state is not State.HOLDS],
        broken,
    )


def _counted(count: int, state: State) -> str:
    what = "claim" if count == 1 else "claims"
    if state is State.HOLDS:
        return f"{count} {what} {'holds' if count == 1 else 'hold'}"
    if state is State.FAILS:
        return f"{count} {'does' if count == 1 else 'do'} not hold"
    return f"{count} unknown"
