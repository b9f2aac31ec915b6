"""Whether the tool tells what is there: a delay that was put into the models on purpose must come out again."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from lab.bench.harness.interleaved import measure
from lab.bench.harness.result import BenchResult, Claim
from lab.bench.harness.stubs import constant_latency
from lab.bench.harness.variant import CALLER, CLUSTER, Arm, Cell
from lab.measure.compare import median_difference
from lab.measure.control import control
from lab.measure.pace import pace_of

if TYPE_CHECKING:
    from lab.bench.harness.environment import Setting

NAME = "known-delay"

DELAYS_MS = (2.0, 10.0, 50.0)
SHARE, LEAST_MS = 0.01, 0.2
"""What may be off: the greater of the two."""
CELL = Cell(400, rate=100, requests=30)
_NONE, _AGAIN = "no delay", "no delay, again"


def run(setting: Setting, rounds: int) -> BenchResult:
    """Measures ``direct`` with each constant delay, and twice without, once a round."""
    endpoints = setting.state.plan.clients[CALLER]
    delays = {_NONE: 0.0, _AGAIN: 0.0, **{f"{known:g} ms": known for known in DELAYS_MS}}
    arms = [Arm(name, "direct", endpoints) for name in delays]
    with ExitStack() as behaviour:

        def delay(arm: Arm) -> None:
            behaviour.close()
            behaviour.enter_context(constant_latency(setting.replicas(CLUSTER), delays[arm.name]))

        result = measure(setting, arms, [CELL], rounds, before=delay)
    p50 = {name: result.p50_ms[name, CELL] for name in delays}
    aa = control(f"{_AGAIN} − {_NONE}, p50, ms", p50[_NONE], p50[_AGAIN])
    claims = []
    for known in DELAYS_MS:
        name, off = f"{known:g} ms", max(SHARE * known, LEAST_MS)
        claims.append(
            Claim(
                text=f"p50 with a delay of {name} − p50 without, ms",
                figure=median_difference(p50[name], p50[_NONE], seed=0),
                at_least=known - off,
                at_most=known + off,
                doubts=(*result.doubts(CELL, name, _NONE), *([aa.doubt] if aa.doubt else [])),
            )
        )
    return BenchResult(
        name=NAME,
        unit="ms (p50)",
        arms=p50,
        claims=claims,
        notes=[f"n = {rounds} rounds × {CELL.requests} requests an arm, {CELL}; history in {result.folder}"],
        controls=[aa],
        paces={name: pace_of(result.paces[name, CELL]) for name in delays},
    )
