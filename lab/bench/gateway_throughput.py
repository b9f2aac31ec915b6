"""Throughput of one gateway replica, as a share of that of the least that a re-serialising proxy can be."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.bench.result import BenchResult, Claim
from lab.bench.setting import cpu_seconds
from lab.errors import UnitError
from lab.measure.compare import interleave, median_ratio
from lab.transport import open_channel
from models.apis import APIS

if TYPE_CHECKING:
    import grpc.aio

    from lab.bench.setting import Setting

NAME = "gateway-throughput"

SECONDS = 3.0
IN_FLIGHT = 32
PAYLOAD_BYTES = 400
BOUND = 0.7
_API = APIS["ranking.v1"]
_USE_CASE, _CLUSTER, _MODEL, _VERSION = "UpNext", "ml-cluster-5", "up-next", "v1"


@dataclass(frozen=True, slots=True)
class _Arm:
    name: str
    address: str
    pid: int


def run(setting: Setting, rounds: int) -> BenchResult:
    """Keeps each of the two busy with the same requests once a round."""
    gateway = setting.state.plan.unit("gateway-1")
    address = setting.address("minimal-proxy")
    argv = ("python", "-m", "lab.bench.minimal_proxy", "--listen", address, "--upstream", *setting.replicas(_CLUSTER))
    arms = [
        _Arm("gateway", gateway.address, setting.state.running[gateway.name].pid),
        _Arm("minimal-proxy", address, setting.start("minimal-proxy", argv, address)),
    ]
    throughput: dict[str, list[float]] = {arm.name: [] for arm in arms}
    per_core: dict[str, list[float]] = {f"{arm.name}, per core": [] for arm in arms}
    for number, order in enumerate([arms, *interleave(arms, rounds, seed=0)]):
        for arm in order:
            setting.say(f"round {number} of {rounds}: {arm.name}" if number else f"warming up {arm.name}")
            cpu_before, began = cpu_seconds(arm.pid), time.monotonic()
            answered = asyncio.run(_keep_busy(arm.address))
            seconds, cpu = time.monotonic() - began, cpu_seconds(arm.pid) - cpu_before
            if number:
                throughput[arm.name].append(answered / seconds)
                per_core[f"{arm.name}, per core"].append(answered / cpu)
    whole = f"gateway / minimal proxy, {IN_FLIGHT} requests in flight, {PAYLOAD_BYTES} B"
    return BenchResult(
        name=NAME,
        unit="rps",
        arms={**throughput, **per_core},
        claims=[
            Claim(
                text=f"requests per second, {whole}",
                figure=median_ratio(throughput["gateway"], throughput["minimal-proxy"], seed=0),
                at_least=BOUND,
            ),
            Claim(
                text=f"requests per second of its own processor time, {whole}",
                figure=median_ratio(per_core["gateway, per core"], per_core["minimal-proxy, per core"], seed=0),
                at_least=BOUND,
            ),
        ],
        notes=[
            f"n = {rounds} rounds × {SECONDS:g} s an arm, order drawn anew each round",
            "client, proxy and model share the machine's cores; the ratio per core is of the proxy's own time alone",
        ],
    )


async def _keep_busy(address: str) -> int:
    """Sends the next request whenever one is answered; returns the number of answers."""
    request = _API.build_request(PAYLOAD_BYTES)
    request.envelope.use_case = _USE_CASE
    request.envelope.context.caller = "playback"
    request.envelope.context.user_id = "u1"
    # The minimal proxy resolves nothing, so the request names its model; the gateway overwrites this.
    request.envelope.model_config.model = _MODEL
    request.envelope.model_config.version = _VERSION
    payload = request.SerializeToString()
    answers: list[bytes] = []
    async with open_channel(address) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_API.unary.path)
        end = time.monotonic() + SECONDS

        async def one_after_the_other() -> int:
            count = 0
            while time.monotonic() < end:
                answers[:] = [await call(payload)]
                count += 1
            return count

        answered = sum(await asyncio.gather(*(one_after_the_other() for _ in range(IN_FLIGHT))))
    by = _API.unary.response_class.FromString(answers[0]).answered_by
    if (by.model, by.version) != (_MODEL, _VERSION):
        raise UnitError(f"{address} was answered by {by.model}@{by.version}, not by {_MODEL}@{_VERSION}")
    return answered
