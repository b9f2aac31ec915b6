"""Convergence after a publish: by acknowledgements, and by the last answer that still follows the old rules."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import uvloop

from lab.client import Client, Endpoints
from lab.client.admin import AdminClient
from lab.clock import lab_time_ns
from lab.measure.compare import median, quantile
from lab.plugins.bench.harness.bench import Bench
from lab.plugins.bench.harness.environment import Environment, open_small_environment
from lab.plugins.bench.harness.result import BenchResult, Claim
from lab.plugins.bench.harness.senders import all_ready
from lab.plugins.bench.harness.trials import Trials
from lab.roles import rule_followers
from lab.topologies import open_client
from models.apis import APIS

if TYPE_CHECKING:
    from lab.client.admin_values import PublishProgress

PUBLISHES = 200
"""Fewest samples for any number of rounds: a 99th percentile needs a hundred."""

CALLERS = 10
MEDIAN_BOUND_MS, P99_BOUND_MS = 25.0, 100.0

_ANSWERS, _ACKNOWLEDGEMENTS = "last answer by the old rules", "last acknowledgement"
_WHOLE = "from the call to publish, by acknowledgement"
_USE_CASE = "ContinueWatchingRanking"
# Between two probes of one path: below the bound, and long enough that probing does not load the machine (twelve paths
# every 10 ms would keep two cores busy).
_EVERY_S = 0.02
# Probing goes on for so long after a publish has returned: longer than the bound and the checkers' settling time.
_WATCH_S = 0.12
_WARM_UP = 4
_NS_PER_MS = 1e6

_SPEC = """
topologies = ["gateway", "mesh"]
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


def run(outer: Environment, rounds: int) -> BenchResult:
    """Publishes repeatedly in its own lab while a client probes every sidecar and gateway."""
    publishes = max(rounds, PUBLISHES)
    with open_small_environment(outer.say, _SPEC, _ROUTES) as inner:
        samples = uvloop.run(_measure(inner.within(outer), publishes))
    return BenchResult(
        unit="ms",
        samples=samples,
        claims=[
            Claim(f"{name}, {sign}, ms", figure(samples[sign]), at_most=bound)
            for name, figure, bound in (
                ("p50", median, MEDIAN_BOUND_MS),
                ("p99", partial(quantile, share=0.99), P99_BOUND_MS),
            )
            for sign in (_ANSWERS, _ACKNOWLEDGEMENTS)
        ],
        notes=[
            f"n = {publishes} publishes; {CALLERS} sidecars and resolvers that hold both keys, and 2 gateways",
            f"each probed every {_EVERY_S * 1e3:g} ms; times count from when the rules went out, for calls begun after",
        ],
    )


@dataclass(slots=True)
class _ProbedClient:
    """A client of one sidecar or gateway, and its answers since the latest publish began."""

    client: Client
    answers: list[tuple[int, int, str]] = field(default_factory=list)  # begun, done (Unix ns), version

    async def run(self, offset_s: float) -> None:
        request = APIS["ranking.v1"].build_request(400)
        await asyncio.sleep(offset_s)
        due = time.monotonic()
        while True:
            begun = lab_time_ns()
            answer = await self.client.call(_USE_CASE, request, {"user_id": "u1"})
            self.answers.append((begun, lab_time_ns(), answer.response.answered_by.version))
            due = max(due + _EVERY_S, time.monotonic())
            await asyncio.sleep(due - time.monotonic())


async def _measure(environment: Environment, publishes: int) -> dict[str, list[float]]:
    where = environment.lab.endpoints()
    probes = [_ProbedClient(open_client("mesh", caller, each)) for caller, each in where.clients.items()]
    probes += [
        _ProbedClient(open_client("gateway", "caller-1", Endpoints({"gateway": (gateway,)})))
        for gateway in where.shared.addresses_of("gateway")
    ]
    trials = Trials(environment, [[_USE_CASE]] * publishes, say_every=50)
    async with all_ready([probe.client for probe in probes]):
        tasks = [asyncio.create_task(probe.run(_EVERY_S * place / len(probes))) for place, probe in enumerate(probes)]
        try:
            with AdminClient(where.control_plane) as admin:
                for number in range(_WARM_UP):
                    await _publish(admin, probes, "v1" if number % 2 else "v2")
                for trial in trials:
                    with trial:
                        trial.keep(**await _publish(admin, probes, "v2" if trial.number % 2 else "v1"))
                    for task in tasks:
                        if task.done():
                            task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return trials.figures


async def _publish(admin: AdminClient, probes: list[_ProbedClient], version: str) -> dict[str, float]:
    for probe in probes:
        probe.answers.clear()
    progress: list[PublishProgress] = []

    change = {_USE_CASE: ("bench", _CASE % version)}
    await asyncio.to_thread(admin.publish_change, change, author="bench", progress=progress.append)
    await asyncio.sleep(_WATCH_S)
    acknowledgements = progress[-1].acknowledgements
    rules_out = max(each.sent_ns for each in acknowledgements if each.role in rule_followers())
    old = [done for probe in probes for begun, done, by in probe.answers if begun > rules_out and by != version]
    last = max(each.at_ns for each in acknowledgements)
    return {
        _ANSWERS: max([0, *(done - rules_out for done in old)]) / _NS_PER_MS,
        _ACKNOWLEDGEMENTS: (last - rules_out) / _NS_PER_MS,
        _WHOLE: (last - progress[0].called_ns) / _NS_PER_MS,
    }


BENCH = Bench(
    name="convergence",
    question="How soon do all nodes follow a publish?",
    run=run,
    samples=PUBLISHES,
)
