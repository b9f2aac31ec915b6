"""Can the load driver be trusted: how many requests it can send, how punctually, and at what cost?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lab.errors import UnitError
from lab.measure.compare import median
from lab.plugins.bench.harness.bench import Bench
from lab.plugins.bench.harness.charts import MIXED
from lab.plugins.bench.harness.result import BenchResult, Claim
from lab.plugins.bench.harness.trials import Trials
from lab.plugins.bench.harness.variant import CALLER, USE_CASE
from lab.runs import LoadOptions
from lab.runs.folder import DRIVER

if TYPE_CHECKING:
    from lab.plugins.bench.harness.environment import Environment


DIRECT = "direct"
PUNCTUAL_RPS = 1_000.0
BUSY_RPS = 3_000.0
SECONDS = 5.0
PER_CORE_BOUND = 4_000.0
RATE_BOUND = 0.01
DELAY_BOUND_MS = 0.5


def run(environment: Environment, rounds: int) -> BenchResult:
    """Drives ``direct``, with the history on, once at each rate a round.

    The cost of a request is measured at a high rate: a driver that is mostly idle spends much of its time waking up.
    """
    per_core, rate, delay = "rps per core, busy", "achieved / offered", "schedule delay p99, ms"
    trials = Trials(environment, [[DIRECT]] * rounds)
    for trial in trials:
        with trial:
            busy, punctual = _account(environment, BUSY_RPS), _account(environment, PUNCTUAL_RPS)
            trial.keep(
                **{
                    per_core: busy["sent"] / busy["cpu_s"],
                    rate: punctual["achieved_rate"] / punctual["offered"],
                    delay: punctual["schedule_delay_p99_ms"],
                }
            )
    samples = trials.figures
    figures = {name: median(values) for name, values in samples.items()}
    return BenchResult(
        unit=MIXED,
        samples=samples,
        claims=[
            Claim(
                f"requests per second of the driver's processor time at {BUSY_RPS:g} rps",
                figures[per_core],
                at_least=PER_CORE_BOUND,
            ),
            Claim(
                f"achieved / offered rate at {PUNCTUAL_RPS:g} rps",
                figures[rate],
                at_least=1 - RATE_BOUND,
                at_most=1 + RATE_BOUND,
            ),
            Claim(f"schedule delay p99 at {PUNCTUAL_RPS:g} rps, ms", figures[delay], at_most=DELAY_BOUND_MS),
        ],
        notes=[
            f"n = {rounds} rounds × {SECONDS:g} s at each rate, topology direct",
            "driver and models share the machine's cores; a driver that may not raise its priority sends later",
        ],
    )


def _account(environment: Environment, rate: float) -> Any:
    """The driver's account of a run in which every answer was right."""
    options = LoadOptions(
        topology=DIRECT,
        caller=CALLER,
        use_cases=(USE_CASE,),
        rate=rate,
        duration_s=SECONDS,
        arrivals="constant",
        contexts={},
    )
    result = environment.lab.load(options)
    wrong = [each.summary for each in result.verdicts if each.claim != "timing" and each.outcome != "valid"]
    if wrong or result.summary.failed:
        reasons = "; ".join(wrong) or f"{result.summary.by_status}"
        raise UnitError(f"{options.topology} did not answer every request rightly ({reasons}): {result.folder}")
    return json.loads((result.folder / DRIVER).read_text())


BENCH = Bench(
    name="driver",
    question="Can the load driver be trusted: how many requests can it send, how punctually, at what cost?",
    run=run,
)
