"""Throughput of one gateway replica, as a share of that of the least that a re-serialising proxy can be."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.bench.harness import prebuilt_request
from lab.bench.harness.environment import cpu_seconds
from lab.bench.harness.result import BenchResult, Claim
from lab.bench.harness.variant import CLUSTER
from lab.measure.compare import interleave, median_ratio
from lab.measure.control import control
from lab.transport import open_channel

if TYPE_CHECKING:
    import grpc.aio

    from lab.bench.harness.environment import Setting

NAME = "gateway-throughput"

SECONDS = 2.0
IN_FLIGHT = 32
PAYLOAD_BYTES = 400
BOUND = 0.8
_GATEWAY, _AGAIN, _YARDSTICK = "gateway", "gateway again", "minimal-proxy"


@dataclass(frozen=True, slots=True)
class _Arm:
    name: str
    address: str
    pid: int


def run(setting: Setting, rounds: int) -> BenchResult:
    """Keeps the two busy with the same requests once a round, and the gateway once more."""
    gateway = setting.state.plan.unit("gateway-1")
    pid = setting.state.running[gateway.name].pid
    address = setting.address(_YARDSTICK)
    argv = (
        "python",
        "-m",
        "lab.bench.harness.minimal_proxy",
        "--listen",
        address,
        "--upstream",
        *setting.replicas(CLUSTER),
    )
    arms = [
        _Arm(_GATEWAY, gateway.address, pid),
        _Arm(_AGAIN, gateway.address, pid),
        _Arm(_YARDSTICK, address, setting.start(_YARDSTICK, argv, address)),
    ]
    rps: dict[str, list[float]] = {arm.name: [] for arm in arms}
    per_core: dict[str, list[float]] = {arm.name: [] for arm in arms}
    for number, order in enumerate([arms, *interleave(arms, rounds, seed=0)]):
        for arm in order:
            setting.say(f"round {number} of {rounds}: {arm.name}" if number else f"warming up {arm.name}")
            cpu_before, began = cpu_seconds(arm.pid), time.monotonic()
            answered = asyncio.run(_keep_busy(arm.address))
            seconds, cpu = time.monotonic() - began, cpu_seconds(arm.pid) - cpu_before
            if number:
                rps[arm.name].append(answered / seconds)
                per_core[arm.name].append(answered / cpu)
    claims, controls = [], []
    for what, measured in (
        ("requests per second", rps),
        ("requests per second of its own processor time", per_core),
    ):
        aa = control(f"{_AGAIN} − {_GATEWAY}, {what}", measured[_GATEWAY], measured[_AGAIN], among=2)
        controls.append(aa)
        claims.append(
            Claim(
                text=f"{what}, gateway / minimal proxy, {IN_FLIGHT} requests in flight, {PAYLOAD_BYTES} B",
                figure=median_ratio(measured[_GATEWAY], measured[_YARDSTICK], seed=0),
                at_least=BOUND,
                doubts=(aa.doubt,) if aa.doubt else (),
            )
        )
    return BenchResult(
        name=NAME,
        unit="rps",
        arms={**rps, **{f"{arm}, per core": values for arm, values in per_core.items()}},
        claims=claims,
        controls=controls,
        notes=[
            f"n = {rounds} rounds × {SECONDS:g} s an arm, order drawn anew each round",
            "client, proxy and model share the machine's cores; the ratio per core is of the proxy's own time alone",
        ],
    )


async def _keep_busy(address: str) -> int:
    """Sends the next request whenever one is answered; returns the number of answers."""
    payload = prebuilt_request.request(PAYLOAD_BYTES)
    answers: list[bytes] = []
    async with open_channel(address) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(prebuilt_request.METHOD.path)
        end = time.monotonic() + SECONDS

        async def one_after_the_other() -> int:
            count = 0
            while time.monotonic() < end:
                answers[:] = [await call(payload)]
                count += 1
            return count

        answered = sum(await asyncio.gather(*(one_after_the_other() for _ in range(IN_FLIGHT))))
    prebuilt_request.check_answer(address, answers[0])
    return answered
