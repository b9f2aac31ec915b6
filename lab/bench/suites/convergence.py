"""How soon everybody follows a publish: by their own word, and by the last answer that still follows the old rules."""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from lab.admin import AdminClient
from lab.bench.harness.environment import setting
from lab.bench.harness.result import BenchResult, Claim
from lab.client import Endpoints
from lab.measure.compare import median, quantile
from lab.topologies import open_client
from models.apis import APIS

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.admin import PublishProgress
    from lab.bench.harness.environment import Setting
    from lab.client import Client
    from lab.lab import Lab

NAME = "convergence"

PUBLISHES = 200
"""At least so many, however few rounds are asked for: a 99th percentile needs a hundred."""

CALLERS = 10
MEDIAN_BOUND_MS, P99_BOUND_MS = 25.0, 100.0

_ANSWERS, _WORDS = "last answer by the old rules", "last acknowledgement"
_WHOLE = "from the call to publish, by acknowledgement"
_USE_CASE = "ContinueWatchingRanking"
# Each way in is asked so often, one after the other: below the bound, and not so often that asking is what takes time
# (twelve ways every 10 ms would keep two cores busy).
_EVERY_S = 0.02
# How long answers are watched after a publish has returned, beyond the bound and the settling time of the checkers.
_WATCH_S = 0.12
_WARM_UP = 4
_NS_PER_MS = 1e6

_SPEC = """
topologies = ["gateway", "mesh"]
routes = "routes.yaml"
[gateway]
replicas = 2
""" + "".join(f'[callers.caller-{number}]\npage = [["{_USE_CASE}"]]\n' for number in range(1, CALLERS + 1))
_CALLERS = ", ".join(f"caller-{number}" for number in range(1, CALLERS + 1))
_CASE = f"{{callers: [{_CALLERS}], api: ranking.v1, timeout: 2s, default: cw-ranker@%s}}"
_ROUTES = f"""
use_cases:
  {_USE_CASE}: {_CASE % "v1"}
models:
  cw-ranker: {{versions: {{v1: {{cluster: ml-cluster-1}}, v2: {{cluster: ml-cluster-2}}}}}}
clusters:
  ml-cluster-1: {{replicas: 1}}
  ml-cluster-2: {{replicas: 1}}
"""


def run(outer: Setting, rounds: int) -> BenchResult:
    """Publishes again and again in a lab of its own, with a client asking through every sidecar and gateway."""
    publishes = max(rounds, PUBLISHES)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "routes.yaml").write_text(_ROUTES)
        (Path(folder) / "lab.toml").write_text(_SPEC)
        with setting(outer.say, Path(folder) / "lab.toml") as inner:
            arms = uvloop.run(_measure(inner.lab, publishes, outer.say))
    claims = [
        Claim(text=f"p50, {arm}, ms", figure=median(arms[arm], seed=0), at_most=MEDIAN_BOUND_MS)
        for arm in (_ANSWERS, _WORDS)
    ]
    claims += [
        Claim(text=f"p99, {arm}, ms", figure=quantile(arms[arm], 0.99, seed=0), at_most=P99_BOUND_MS)
        for arm in (_ANSWERS, _WORDS)
    ]
    return BenchResult(
        name=NAME,
        unit="ms",
        arms=arms,
        claims=claims,
        notes=[
            f"n = {publishes} publishes; {CALLERS} sidecars and resolvers that hold both keys, and 2 gateways",
            f"each asked every {_EVERY_S * 1e3:g} ms; counted from when the rules went out, calls begun after that",
        ],
    )


@dataclass(slots=True)
class _Way:
    """One way to the models, and what came back on it since the latest publish began."""

    caller: str
    client: Client
    answers: list[tuple[int, int, str]] = field(default_factory=list)  # begun, done (Unix ns), version

    async def ask_on_and_on(self, offset_s: float) -> None:
        request = APIS["ranking.v1"].build_request(400)
        await asyncio.sleep(offset_s)
        due = time.monotonic()
        while True:
            begun = time.time_ns()
            answer = await self.client.call(_USE_CASE, request, {"user_id": "u1"})
            self.answers.append((begun, time.time_ns(), answer.response.answered_by.version))
            due = max(due + _EVERY_S, time.monotonic())
            await asyncio.sleep(due - time.monotonic())


async def _measure(lab: Lab, publishes: int, say: Callable[[str], None]) -> dict[str, list[float]]:
    where = lab.endpoints()
    ways = [_Way(caller, open_client("mesh", caller, each)) for caller, each in where.clients.items()]
    ways += [
        _Way("caller-1", open_client("gateway", "caller-1", Endpoints({"gateway": (gateway,)})))
        for gateway in where.shared.addresses_of("gateway")
    ]
    arms: dict[str, list[float]] = {_ANSWERS: [], _WORDS: [], _WHOLE: []}
    try:
        await asyncio.gather(*(way.client.ready() for way in ways))
        asking = [
            asyncio.create_task(way.ask_on_and_on(_EVERY_S * place / len(ways))) for place, way in enumerate(ways)
        ]
        try:
            with AdminClient(where.control_plane) as admin:
                for number in range(_WARM_UP + publishes):
                    if number % 50 == 0:
                        say(f"publish {max(0, number - _WARM_UP)} of {publishes}")
                    measured = await _publish(admin, ways, "v2" if number % 2 == 0 else "v1")
                    if number >= _WARM_UP:
                        for arm, value in measured.items():
                            arms[arm].append(value)
                    for task in asking:
                        if task.done():
                            task.result()
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
    finally:
        await asyncio.gather(*(way.client.close() for way in ways))
    return arms


async def _publish(admin: AdminClient, ways: list[_Way], version: str) -> dict[str, float]:
    for way in ways:
        way.answers.clear()
    told: list[PublishProgress] = []

    def publish() -> None:
        admin.publish_change({_USE_CASE: ("bench", _CASE % version)}, author="bench", progress=told.append)

    await asyncio.to_thread(publish)
    await asyncio.sleep(_WATCH_S)
    acknowledgements = told[-1].acknowledgements
    rules_out = max(each.sent_ns for each in acknowledgements if each.role in {"resolver", "gateway"})
    old = [done for way in ways for begun, done, by in way.answers if begun > rules_out and by != version]
    last = max(each.at_ns for each in acknowledgements)
    return {
        _ANSWERS: max([0, *(done - rules_out for done in old)]) / _NS_PER_MS,
        _WORDS: (last - rules_out) / _NS_PER_MS,
        _WHOLE: (last - told[0].called_ns) / _NS_PER_MS,
    }
