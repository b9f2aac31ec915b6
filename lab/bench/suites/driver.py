"""Whether the measuring tool can be trusted: how much it can send, how punctually, and what that costs it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lab.bench.harness.result import BenchResult, Claim
from lab.measure.compare import median
from lab.runs import LoadOptions
from lab.runs.folder import DRIVER

if TYPE_CHECKING:
    from lab.bench.harness.environment import Setting

NAME = "driver"

PUNCTUAL_RPS = 1_000.0
BUSY_RPS = 3_000.0
SECONDS = 5.0
PER_CORE_BOUND = 4_000.0
RATE_BOUND = 0.01
DELAY_BOUND_MS = 0.5


def run(setting: Setting, rounds: int) -> BenchResult:
    """Drives ``direct``, with the history on, once at each rate a round.

    What a request costs is measured at the rate that is claimed for it: a driver that is mostly idle spends much of its
    time on waking up.
    """
    per_core, rate, delay = "rps per core, busy", "achieved / offered", "schedule delay p99, ms"
    arms: dict[str, list[float]] = {per_core: [], rate: [], delay: []}
    for number in range(1, rounds + 1):
        setting.say(f"round {number} of {rounds}")
        busy, punctual = _account(setting, BUSY_RPS), _account(setting, PUNCTUAL_RPS)
        arms[per_core].append(busy["sent"] / busy["cpu_s"])
        arms[rate].append(punctual["achieved_rate"] / punctual["offered"])
        arms[delay].append(punctual["schedule_delay_p99_ms"])
    figures = {arm: median(values, seed=0) for arm, values in arms.items()}
    return BenchResult(
        name=NAME,
        unit="as named",
        arms=arms,
        claims=[
            Claim(
                text=f"requests per second of the driver's processor time at {BUSY_RPS:g} rps",
                figure=figures[per_core],
                at_least=PER_CORE_BOUND,
            ),
            Claim(
                text=f"achieved / offered rate at {PUNCTUAL_RPS:g} rps",
                figure=figures[rate],
                at_least=1 - RATE_BOUND,
                at_most=1 + RATE_BOUND,
            ),
            Claim(
                text=f"schedule delay p99 at {PUNCTUAL_RPS:g} rps, ms", figure=figures[delay], at_most=DELAY_BOUND_MS
            ),
        ],
        notes=[
            f"n = {rounds} rounds × {SECONDS:g} s at each rate, topology direct",
            "driver and models share the machine's cores; a driver that may not raise its priority is less punctual",
        ],
    )


def _account(setting: Setting, rate: float) -> Any:
    options = LoadOptions(
        topology="direct",
        caller="playback",
        use_cases=("UpNext",),
        rate=rate,
        duration_s=SECONDS,
        arrivals="constant",
        contexts={},
    )
    return json.loads((setting.load(options).folder / DRIVER).read_text())
