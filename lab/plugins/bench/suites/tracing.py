"""What traces cost: requests of two topologies without traces, with one in a hundred traced, and with all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from lab.measure.compare import Interval, median_difference, median_ratio
from lab.plugins.bench.harness.bench import Bench
from lab.plugins.bench.harness.environment import Environment, open_small_environment
from lab.plugins.bench.harness.interleaved import DOUBTFUL, Rounds, measure
from lab.plugins.bench.harness.result import BenchResult, Claim
from lab.plugins.bench.harness.variant import CALLER, ROUTES, LoadPoint, Variant

if TYPE_CHECKING:
    from lab.measure.findings import ResultTable

TOPOLOGIES = ("mesh", "gateway")
RATES = {"1 %": 0.01, "100 %": 1.0}
LOAD_POINTS = (LoadPoint(400, rate=100, requests=30), LoadPoint(400, rate=500, requests=75))
_SPEC = f'topologies = ["mesh", "gateway"]\n[callers.{CALLER}]\n[gateway]\nreplicas = 1\n'
_AGAIN = "mesh, no traces, another lab"


def run(environment: Environment, rounds: int) -> BenchResult:
    """Measures both topologies in labs that differ in their traces alone.

    The control is ``mesh`` in two labs without traces: two labs of one kind differ, too.
    """
    with ExitStack() as labs:

        def small_lab(rate: float | None) -> Environment:
            return labs.enter_context(open_small_environment(environment.say, _SPEC, ROUTES, traces=rate))

        plain = small_lab(None)
        by_share = {"no traces": plain, **{share: small_lab(rate) for share, rate in RATES.items()}}
        variants = [
            Variant(f"{topology}, {share}", topology, lab.state.plan.clients[CALLER], lab=lab)
            for topology in TOPOLOGIES
            for share, lab in by_share.items()
        ]
        again = small_lab(None)
        variants.append(Variant(_AGAIN, "mesh", again.state.plan.clients[CALLER], lab=again))
        twice = _plain("mesh"), _AGAIN
        measured = measure(plain.within(environment), variants, LOAD_POINTS, rounds, measured_twice=twice)
    return measured.result(
        _claims(measured),
        notes=[
            f"n = {rounds} rounds; each in random order; history in {measured.folder}",
            "caller, resolver, sidecar, gateway, model and collector share this machine's cores",
            DOUBTFUL,
        ],
        tables=[
            _table(measured, "added by traces, p50, ms", median_difference),
            _table(measured, "ratio", median_ratio),
        ],
    )


def _plain(topology: str) -> str:
    return f"{topology}, no traces"


def _claims(measured: Rounds) -> Iterator[Claim]:
    """One in a hundred adds no more to the mesh than the control finds between a path and itself."""
    traced, plain = "mesh, 1 %", _plain("mesh")
    for point in LOAD_POINTS:
        same = measured.controls[point].difference
        bound = max(abs(same.low), abs(same.high))
        yield Claim(
            f"mesh, 1 % traced − no traces, p50, {point}, ms; bound: the A/A control's interval",
            median_difference(measured.p50_ms[traced, point], measured.p50_ms[plain, point]),
            at_most=bound,
            doubts=measured.doubts(point, traced, plain),
        )


def _table(measured: Rounds, title: str, compare: Callable[..., Interval]) -> ResultTable:
    def shown(topology: str, share: str, point: LoadPoint) -> str:
        traced, plain = f"{topology}, {share}", _plain(topology)
        figure = compare(measured.p50_ms[traced, point], measured.p50_ms[plain, point])
        return measured.shown(figure, point, traced, plain)

    rows = [([topology, share], partial(shown, topology, share)) for topology in TOPOLOGIES for share in RATES]
    return measured.table(f"{title}, with 95 % intervals", ["topology", "traced"], rows)


BENCH = Bench(
    name="tracing",
    question="What do traces of requests cost: of one in a hundred, and of all?",
    run=run,
    controls=len(LOAD_POINTS),
)
