"""Does the tool find a difference where there is none: a path against itself, in many runs one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lab.measure.compare import CONFIDENCE, exactly, median_ratio
from lab.measure.control import control
from lab.measure.findings import in_its_interval
from lab.measure.pace import pace_of
from lab.plugins.bench.harness.bench import Bench
from lab.plugins.bench.harness.interleaved import measure
from lab.plugins.bench.harness.result import BenchResult, Claim, ResultTable
from lab.plugins.bench.harness.variant import CALLER, LoadPoint, Variant

if TYPE_CHECKING:
    from lab.plugins.bench.harness.environment import Environment

RUNS = 20
MAY_DIFFER = 1
"""Runs whose interval may miss the true difference, 0."""

LOAD_POINT = LoadPoint(400, rate=100, requests=30)
_DIRECT, _AGAIN = "direct", "direct again"


def run(environment: Environment, rounds: int) -> BenchResult:
    """Measures ``direct`` twice a round, and takes every ``rounds`` rounds as a run of its own."""
    endpoints = environment.state.plan.clients[CALLER]
    variants = [Variant(name, "direct", endpoints) for name in (_DIRECT, _AGAIN)]
    measured = measure(environment, variants, [LOAD_POINT], RUNS * rounds, measured_twice=(_DIRECT, _AGAIN))
    first, again = (measured.p50_ms[name, LOAD_POINT] for name in (_DIRECT, _AGAIN))
    runs = [(first[at : at + rounds], again[at : at + rounds]) for at in range(0, len(first), rounds)]
    found = result(runs)
    return replace(
        found,
        claims=[replace(each, doubts=measured.doubts(LOAD_POINT, _DIRECT, _AGAIN)) for each in found.claims],
        controls=[*measured.controls.values()],
        paces={name: pace_of(measured.paces[name, LOAD_POINT]) for name in (_DIRECT, _AGAIN)},
    )


def result(runs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> BenchResult:
    """Returns the result of runs, each the rounds of a variant and of the same variant again."""
    controls = [control(f"{number}", *run) for number, run in enumerate(runs, start=1)]
    ratios = [median_ratio(again, first) for first, again in runs]
    agreeing = sum(each.agrees and each.can_tell for each in controls)
    holding_one = sum(each.low <= 1 <= each.high for each in ratios)
    columns = ("run", "difference of p50, ms", "holds 0", "ratio of p50")
    rows = [
        (each.text, in_its_interval(each.difference), "yes" if each.agrees else "no", in_its_interval(ratio))
        for each, ratio in zip(controls, ratios, strict=True)
    ]
    return BenchResult(
        unit="ms (p50)",
        samples={name: [each for run in runs for each in run[place]] for place, name in enumerate((_DIRECT, _AGAIN))},
        claims=[
            Claim(
                f"A/A runs of {len(runs)} whose interval holds 0",
                exactly(agreeing, rounds=len(runs)),
                at_least=len(runs) - MAY_DIFFER,
            )
        ],
        tables=[
            ResultTable(f"{_AGAIN} against {_DIRECT}, {LOAD_POINT}", columns, rows, numbers=(columns[1], columns[3]))
        ],
        notes=[
            f"n = {len(runs[0][0])} rounds a run; differences have an A/A control's exact interval, at 98 % or more",
            f"of the ratios' intervals, by bootstrap at {CONFIDENCE:.0%}, {holding_one} of {len(runs)} hold 1",
        ],
    )


BENCH = Bench(
    name="aa",
    question="Does the tool find a difference between a path and itself, in twenty runs?",
    run=run,
    rounds=10,  # the fewest for which the exact interval misses far less often than in one run of fifty
    controls=1,
)
