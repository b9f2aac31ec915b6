"""Does the tool measure what is there: a known delay is injected into the models and must show in the latency."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from lab.measure.compare import median_difference
from lab.measure.pace import pace_of
from lab.plugins.bench.harness.bench import Bench
from lab.plugins.bench.harness.interleaved import measure
from lab.plugins.bench.harness.result import BenchResult, Claim
from lab.plugins.bench.harness.stubs import constant_latency
from lab.plugins.bench.harness.variant import CALLER, CLUSTER, LoadPoint, Variant

if TYPE_CHECKING:
    from lab.plugins.bench.harness.environment import Environment


DELAYS_MS = (2.0, 10.0, 50.0)
SHARE, LEAST_MS = 0.01, 0.2
"""The tolerance: a share of the delay, or a number of ms if that is greater."""
LOAD_POINT = LoadPoint(400, rate=100, requests=30)
_NONE, _AGAIN = "no delay", "no delay, again"


def run(environment: Environment, rounds: int) -> BenchResult:
    """Measures ``direct`` with each constant delay, and twice without, once a round."""
    endpoints = environment.state.plan.clients[CALLER]
    delays = {_NONE: 0.0, _AGAIN: 0.0, **{f"{known:g} ms": known for known in DELAYS_MS}}
    variants = [Variant(name, "direct", endpoints) for name in delays]
    with ExitStack() as behaviour:

        def delay(variant: Variant) -> None:
            behaviour.close()
            behaviour.enter_context(constant_latency(environment.replicas(CLUSTER), delays[variant.name]))

        result = measure(environment, variants, [LOAD_POINT], rounds, measured_twice=(_NONE, _AGAIN), before=delay)
    p50 = {name: result.p50_ms[name, LOAD_POINT] for name in delays}
    claims = []
    for known in DELAYS_MS:
        name, off = f"{known:g} ms", max(SHARE * known, LEAST_MS)
        claims.append(
            Claim(
                f"p50 with a delay of {name} − p50 without, ms",
                median_difference(p50[name], p50[_NONE]),
                at_least=known - off,
                at_most=known + off,
                doubts=result.doubts(LOAD_POINT, name, _NONE),
            )
        )
    return BenchResult(
        unit="ms (p50)",
        samples=p50,
        claims=claims,
        notes=[
            f"n = {rounds} rounds × {LOAD_POINT.requests} requests a variant, {LOAD_POINT}; history in {result.folder}"
        ],
        controls=list(result.controls.values()),
        paces={name: pace_of(result.paces[name, LOAD_POINT]) for name in delays if (name, LOAD_POINT) in result.paces},
    )


BENCH = Bench(
    name="known-delay",
    question="Does a delay that was injected into the models show in the measured latency?",
    run=run,
    controls=1,
)
