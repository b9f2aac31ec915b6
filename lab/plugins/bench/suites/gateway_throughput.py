"""Throughput of one gateway replica, as a share of that of a minimal re-serialising proxy."""

from __future__ import annotations

import asyncio
from functools import partial

from lab.measure.compare import interleave, median_ratio
from lab.measure.control import control
from lab.plugins.bench.harness import prebuilt_request
from lab.plugins.bench.harness.bench import Bench
from lab.plugins.bench.harness.environment import Environment, cpu_seconds
from lab.plugins.bench.harness.result import BenchResult, Claim
from lab.plugins.bench.harness.trials import Trials
from lab.plugins.bench.harness.variant import CLUSTER

SECONDS = 2.0
IN_FLIGHT = 32
PAYLOAD_BYTES = 400
BOUND = 0.8
_GATEWAY, _AGAIN, _YARDSTICK = "gateway", "gateway again", "minimal-proxy"


def run(environment: Environment, rounds: int) -> BenchResult:
    """Keeps gateway and yardstick busy with the same requests once a round, and the gateway a second time."""
    gateway = environment.state.plan.unit("gateway-1")
    pid = environment.state.running[gateway.name].pid
    address = environment.address(_YARDSTICK)
    argv = ("python", "-m", "lab.plugins.bench.harness.minimal_proxy", address, *environment.replicas(CLUSTER))
    yardstick = address, environment.start(_YARDSTICK, argv, address)
    proxies = {_GATEWAY: (gateway.address, pid), _AGAIN: (gateway.address, pid), _YARDSTICK: yardstick}
    trials = Trials(environment, interleave(proxies, rounds), warm_up=list(proxies))
    for trial in trials:
        its_address, its_pid = proxies[trial.cell]
        with trial:
            answered, seconds, cpu = asyncio.run(
                prebuilt_request.keep_busy(
                    its_address, PAYLOAD_BYTES, partial(cpu_seconds, its_pid), in_flight=IN_FLIGHT, seconds=SECONDS
                )
            )
            trial.keep(rps=answered / seconds, per_core=answered / cpu)
    rps, per_core = ({name: trials.samples[name, figure] for name in proxies} for figure in ("rps", "per_core"))
    claims, controls = [], []
    for what, measured in (
        ("requests per second", rps),
        ("requests per second of its own processor time", per_core),
    ):
        aa = control(f"{_AGAIN} − {_GATEWAY}, {what}", measured[_GATEWAY], measured[_AGAIN], among=2)
        controls.append(aa)
        claims.append(
            Claim(
                f"{what}, gateway / minimal proxy, {IN_FLIGHT} requests in flight, {PAYLOAD_BYTES} B",
                median_ratio(measured[_GATEWAY], measured[_YARDSTICK]),
                at_least=BOUND,
                doubts=(aa.doubt,) if aa.doubt else (),
            )
        )
    return BenchResult(
        unit="rps",
        samples={**rps, **{f"{name}, per core": values for name, values in per_core.items()}},
        claims=claims,
        controls=controls,
        notes=[
            f"n = {rounds} rounds × {SECONDS:g} s a proxy, random order in every round",
            "client, proxy and model share the machine's cores; the ratio per core counts the proxy's own time alone",
        ],
    )


BENCH = Bench(
    name="gateway-throughput",
    question="How much of a minimal proxy's throughput does the gateway reach?",
    run=run,
    controls=2,
)
