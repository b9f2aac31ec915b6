"""What asking the resolver costs: with leases and without, beside each caller and shared by all of them."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import median
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

import uvloop

from lab.bench.pace import pace
from lab.bench.pictures import MIXED, chart_of_medians
from lab.bench.result import BenchResult, Claim, ResultTable
from lab.bench.setting import cpu_seconds, setting
from lab.checkers.plain import decide
from lab.client.mesh import MeshClient, UnleasedMeshClient
from lab.errors import UnitError
from lab.measure import compare
from lab.measure.compare import added_ratio, interleave, median_ratio
from lab.report.palette import topology_style
from models.apis import APIS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from lab.bench.setting import Setting
    from lab.client.decisions import Decision
    from lab.client.wire import Wire
    from lab.lab import Lab

NAME = "resolver"

CALLERS = 4
EVERY_MS = 10
"""Between two requests of one caller."""

REQUESTS = 50
"""Of one caller, an arm and round."""

LEASED_BOUND, CPU_BOUND, SHARED_BOUND, HITS_BOUND, CONTROL_BOUND = 0.2, 0.25, 1.25, 0.95, 1.1

ONCE, LEASED, BY_USER = "decided once", "leased", "leased, rules by user"
UNLEASED, AGAIN = "unleased", "unleased, again"
SHARED_LEASED, SHARED_UNLEASED = "shared, leased", "shared, unleased"
ARMS = (ONCE, LEASED, BY_USER, UNLEASED, AGAIN, SHARED_LEASED, SHARED_UNLEASED)

_STYLES = {
    ONCE: "run-7",
    LEASED: topology_style("mesh"),
    BY_USER: "run-5",
    UNLEASED: topology_style("mesh-unleased"),
    AGAIN: topology_style("mesh-unleased"),
    SHARED_LEASED: "run-4",
    SHARED_UNLEASED: "run-4",
}

_SHARED = "shared-resolver"
_BY_CONTEXT, _BY_USER = "ByContext", "ByUser"
_DEVICES, _COUNTRIES = ("tv", "phone", "tablet", "web"), ("US", "CA", "DE", "FR", "JP")
_NS_PER_MS = 1e6
_MS_PER_S = 1e3
_PER_THOUSAND = 1_000

_NAMES = [f"caller-{number}" for number in range(1, CALLERS + 1)]
_SPEC = """
topologies = ["mesh", "mesh-unleased"]
routes = "routes.yaml"
""" + "".join(f'[callers.{name}]\npage = [["{_BY_CONTEXT}"]]\n' for name in _NAMES)
_CASE = f"callers: [{', '.join(_NAMES)}], api: ranking.v1, timeout: 2s, default: rows@v1"
_ROUTES = f"""
use_cases:
  {_BY_CONTEXT}: {{{_CASE}, rules: [{{name: na, when: {{device: [tv], country: [US, CA]}}, use: rows@v2}}]}}
  {_BY_USER}: {{{_CASE}, rules: [{{name: canary, split: {{unit: user_id, weights: {{rows@v1: 95, rows@v2: 5}}}}}}]}}
models:
  rows: {{versions: {{v1: {{cluster: ml-cluster-1}}, v2: {{cluster: ml-cluster-1}}}}}}
clusters:
  ml-cluster-1: {{replicas: 1}}
"""


class _TimedClient(UnleasedMeshClient):
    """Keeps how long each question to the resolver took, ms."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.questions: list[float] = []

    async def _resolve(self, use_case: str, context: Mapping[str, str], timeout_s: float) -> Decision:
        began = monotonic_ns()
        try:
            return await super()._resolve(use_case, context, timeout_s)
        finally:
            self.questions.append((monotonic_ns() - began) / _NS_PER_MS)


class _LeasedClient(_TimedClient, MeshClient):
    """Holds leases."""


class _OnceClient(_TimedClient):
    """Never asks again: what calls cost where deciding costs nothing. Knows what the rules read, as no client can."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._known: dict[tuple[str, str], tuple[Wire, Decision]] = {}

    async def _choose(self, use_case: str, context: Mapping[str, str]) -> tuple[Wire, Decision]:
        key = context["device"], context["country"]
        if key not in self._known:
            self._known[key] = await super()._choose(use_case, context)
        return self._known[key]


_KINDS: Mapping[str, type[_TimedClient]] = {
    ONCE: _OnceClient,
    LEASED: _LeasedClient,
    BY_USER: _LeasedClient,
    UNLEASED: _TimedClient,
    AGAIN: _TimedClient,
    SHARED_LEASED: _LeasedClient,
    SHARED_UNLEASED: _TimedClient,
}


@dataclass(frozen=True, slots=True)
class Slice:
    """One round of one arm.

    Attributes:
        p50: of its requests, ms, from when each was due to its answer.
        cpu: processor time of all resolvers together, ms per 1,000 requests.
        questions: how long each question to a resolver took, ms.
        requests: how many there were.
    """

    p50: float
    cpu: float
    questions: Sequence[float]
    requests: int

    @property
    def hits(self) -> float:
        """Share of the requests for which nobody was asked."""
        return 1 - len(self.questions) / self.requests


def run(outer: Setting, rounds: int) -> BenchResult:
    """Drives several callers at once, in a lab of its own with a resolver beside each, and one more that is shared."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "routes.yaml").write_text(_ROUTES)
        (Path(folder) / "lab.toml").write_text(_SPEC)
        with setting(outer.say, Path(folder) / "lab.toml") as inner:
            address = inner.address(_SHARED)
            where = ("--listen", address, "--control-plane", inner.lab.endpoints().control_plane)
            pid = inner.start(_SHARED, ("python", "-m", "services.resolver", "--name", _SHARED, *where), address)
            beside = [inner.state.running[unit.name].pid for unit in inner.state.plan.with_role("resolver")]
            return result(uvloop.run(_measure(inner.lab, address, [*beside, pid], rounds, outer.say)))


def result(seen: Mapping[str, Sequence[Slice]]) -> BenchResult:
    """What follows from the rounds of each arm."""
    p50 = {arm: [each.p50 for each in slices] for arm, slices in seen.items()}
    cpu = {arm: [each.cpu for each in slices] for arm, slices in seen.items()}
    added = {arm: _added(seen, arm) for arm in ARMS if arm != ONCE}
    rounds = len(p50[ONCE])
    return BenchResult(
        name=NAME,
        unit=MIXED,
        arms={
            **{f"{arm}, p50, ms": values for arm, values in p50.items()},
            **{f"{arm}, resolvers, CPU ms per 1,000 requests": values for arm, values in cpu.items()},
        },
        claims=[
            Claim(
                text="what leased calls add / what unleased add, over calls decided once, p50",
                figure=added_ratio(p50[LEASED], p50[UNLEASED], p50[ONCE], seed=0),
                at_most=LEASED_BOUND,
            ),
            Claim(
                text="processor time of resolvers, leased / unleased",
                figure=median_ratio(cpu[LEASED], cpu[UNLEASED], seed=0),
                at_most=CPU_BOUND,
            ),
            Claim(
                text=f"share of calls that a lease answered, rules by {len(_DEVICES) * len(_COUNTRIES)} contexts",
                figure=compare.median([each.hits for each in seen[LEASED]], seed=0),
                at_least=HITS_BOUND,
            ),
            Claim(
                text="what unleased calls add, shared resolver / one beside each caller, p50",
                figure=added_ratio(p50[SHARED_UNLEASED], p50[UNLEASED], p50[ONCE], seed=0),
                at_most=SHARED_BOUND,
            ),
            Claim(
                text="A/A control: p50, unleased / unleased again",
                figure=median_ratio(p50[UNLEASED], p50[AGAIN], seed=0),
                at_least=1 / CONTROL_BOUND,
                at_most=CONTROL_BOUND,
            ),
        ],
        tables=[_table(seen)],
        charts=[
            replace(
                chart_of_medians(NAME, "ms added to the median call", added, styles=_STYLES),
                title="What deciding adds to a call, over calls decided once and for all",
                name="added",
            ),
            replace(
                chart_of_medians(NAME, "processor time of all resolvers, ms per 1,000 requests", cpu, styles=_STYLES),
                title="What resolvers work for it",
                name="cpu",
            ),
        ],
        notes=[
            f"n = {rounds} rounds × {CALLERS} callers × {REQUESTS} requests an arm, order drawn anew each round",
            f"a caller's requests are {EVERY_MS} ms apart, and latency counts from when each was due",
            "rules by user read user_id, so each user has a lease of its own; every request is of a new user",
            "processor time is counted by the kernel in steps of 10 ms, for all resolvers together",
            "all on one loopback: between machines a shared resolver is a network hop away, and one beside is not",
        ],
    )


def _table(seen: Mapping[str, Sequence[Slice]]) -> ResultTable:
    rows = []
    for arm, slices in seen.items():
        added = compare.median(_added(seen, arm), seed=0)
        questions = [each for taken in slices for each in taken.questions]
        resolve = (
            compare.quantile(questions, share, seed=0).estimate if questions else "none" for share in (0.5, 0.99)
        )
        rows.append(
            (
                arm,
                median(each.p50 for each in slices),
                added.estimate,
                f"{added.low:.3f} to {added.high:.3f}",
                *resolve,
                f"{100 * (1 - len(questions) / sum(each.requests for each in slices)):.1f} %",
                median(each.cpu for each in slices),
            )
        )
    columns = ("arm", "p50", "added", "95 % interval", "resolve p50", "resolve p99", "not asked", "CPU")
    title = "ms; resolving over all rounds; calls for which nobody was asked; resolvers' CPU, ms per 1,000 requests"
    return ResultTable(title=title, columns=columns, rows=rows, numbers=columns[1:])


def _added(seen: Mapping[str, Sequence[Slice]], arm: str) -> list[float]:
    return [each.p50 - once.p50 for each, once in zip(seen[arm], seen[ONCE], strict=True)]


async def _measure(
    lab: Lab, shared: str, pids: Sequence[int], rounds: int, say: Callable[[str], None]
) -> dict[str, list[Slice]]:
    where, document = lab.endpoints().clients, lab.revision().document or {}
    clients: dict[str, list[_TimedClient]] = {}
    seen: dict[str, list[Slice]] = {arm: [] for arm in ARMS}
    try:
        for arm, kind in _KINDS.items():
            of_arm = clients[arm] = []
            for name in _NAMES:
                there = replace(where[name], resolver=shared) if arm.startswith("shared") else where[name]
                of_arm.append(kind(name, there))
        await asyncio.gather(*(client.ready() for of_arm in clients.values() for client in of_arm))
        draw = Random(0)  # noqa: S311 (no secret)
        for number, order in enumerate([list(ARMS), *interleave(list(ARMS), rounds, seed=0)]):
            for arm in order:
                say(f"round {number} of {rounds}: {arm}" if number else f"warming up {arm}")
                taken = await _slice(clients[arm], _BY_USER if arm == BY_USER else _BY_CONTEXT, draw, document, pids)
                if number:
                    seen[arm].append(taken)
    finally:
        await asyncio.gather(*(client.close() for of_arm in clients.values() for client in of_arm))
    return seen


async def _slice(
    clients: Sequence[_TimedClient], use_case: str, draw: Random, document: Mapping[str, Any], pids: Sequence[int]
) -> Slice:
    latencies: list[float] = []
    wrong: list[str] = []
    for client in clients:
        client.questions.clear()

    def sender(name: str, client: _TimedClient) -> Callable[[int], Awaitable[None]]:
        request = APIS["ranking.v1"].build_request(400)

        async def send(due_ns: int) -> None:
            context = {
                "user_id": f"u{draw.getrandbits(48):x}",
                "device": draw.choice(_DEVICES),
                "country": draw.choice(_COUNTRIES),
            }
            answer = await client.call(use_case, request, context)
            latencies.append((monotonic_ns() - due_ns) / _NS_PER_MS)
            by, wanted = answer.response.answered_by.version, decide(document, use_case, {**context, "caller": name})
            if by != wanted.version:
                wrong.append(f"{use_case} for {context} was answered by {by}, not by {wanted.version}")

        return send

    spread = EVERY_MS // len(clients)
    before = sum(map(cpu_seconds, pids))
    await asyncio.gather(
        *(
            pace(sender(name, client), every_ms=EVERY_MS, numbers=range(REQUESTS), offset_ms=place * spread)
            for place, (name, client) in enumerate(zip(_NAMES, clients, strict=True))
        )
    )
    cpu_ms = (sum(map(cpu_seconds, pids)) - before) * _MS_PER_S
    if wrong:
        raise UnitError(wrong[0])
    questions = [each for client in clients for each in client.questions]
    return Slice(median(latencies), cpu_ms * _PER_THOUSAND / len(latencies), questions, len(latencies))
