"""What asking the resolver costs: with leases and without, beside each caller and shared by all of them."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from random import Random
from statistics import median
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import uvloop

from lab.bench.harness.charts import MIXED, chart_of_medians
from lab.bench.harness.environment import cpu_seconds, setting
from lab.bench.harness.fixed_rate_sender import send_on_time
from lab.bench.harness.result import BenchResult, Claim, ResultTable
from lab.checkers.plain import decide
from lab.client import Client, ResolverClient, RpcChannel
from lab.client.resolver import RESOLVE_TIMEOUT_S
from lab.client.strategies import Leased, Unleased
from lab.errors import UnitError
from lab.measure import compare
from lab.measure.compare import added_ratio, interleave, median_ratio
from lab.measure.control import control
from lab.report.palette import topology_style
from lab.transport.address_registry import beside
from models.apis import APIS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from lab.bench.harness.environment import Setting
    from lab.client import Endpoints, Strategy
    from lab.client.decisions import ResolvedDecision
    from lab.lab import Lab
    from lab.routing.attempts import Decision, RequestAttempts

NAME = "resolver"

CALLERS = 4
EVERY_MS = 20
"""Between two requests of one caller, by whichever arm."""

REQUESTS = 20
"""Of one caller, an arm and round."""

BUSY_REQUESTS = 50
"""The same while processor time is counted."""

LEASED_BOUND, CPU_BOUND, SHARED_BOUND, HITS_BOUND = 0.2, 0.25, 1.25, 0.95

ONCE, LEASED, BY_USER = "decided once", "leased", "leased, rules by user"
UNLEASED, AGAIN = "unleased", "unleased, again"
SHARED_LEASED, SHARED_UNLEASED = "shared, leased", "shared, unleased"
ARMS = (ONCE, LEASED, BY_USER, UNLEASED, AGAIN, SHARED_LEASED, SHARED_UNLEASED)
BUSY_ARMS = (LEASED, UNLEASED, SHARED_LEASED, SHARED_UNLEASED)
"""Those whose processor time is counted."""

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
_CONTEXTS = list(product(("tv", "phone", "tablet", "web"), ("US", "CA", "DE", "FR", "JP")))
_REQUEST = APIS["ranking.v1"].build_request(400)
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


class _TimedResolver(ResolverClient):
    """Keeps how long each question to the resolver took, ms."""

    def __init__(self, caller: str, address: str) -> None:
        super().__init__(caller, address)
        self.questions: list[float] = []

    async def resolve(
        self, attempts: RequestAttempts, context: Mapping[str, str], timeout_s: float = RESOLVE_TIMEOUT_S
    ) -> ResolvedDecision:
        """Asks the resolver."""
        began = monotonic_ns()
        try:
            return await super().resolve(attempts, context, timeout_s)
        finally:
            self.questions.append((monotonic_ns() - began) / _NS_PER_MS)


class _Once(Unleased):
    """Never asks again: what calls cost where deciding costs nothing. Knows what the rules read, as no client can."""

    def __init__(self, resolver: ResolverClient, channel: RpcChannel) -> None:
        super().__init__(resolver, channel)
        self._known: dict[tuple[str, str], tuple[RpcChannel, Decision]] = {}

    async def decide(self, attempts: RequestAttempts, context: Mapping[str, str]) -> tuple[RpcChannel, Decision]:
        """The first decision for device and country."""
        key = context["device"], context["country"]
        if key not in self._known:
            self._known[key] = await super().decide(attempts, context)
        return self._known[key]


class _Asker(NamedTuple):
    """A client, and its resolver."""

    client: Client
    resolver: _TimedResolver


_STRATEGIES: Mapping[str, Callable[[ResolverClient, RpcChannel], Strategy]] = {
    ONCE: _Once,
    LEASED: Leased,
    BY_USER: Leased,
    UNLEASED: Unleased,
    AGAIN: Unleased,
    SHARED_LEASED: Leased,
    SHARED_UNLEASED: Unleased,
}


def _opened(arm: str, caller: str, endpoints: Endpoints, shared: str) -> _Asker:
    """A client that sends through its sidecar and asks the resolver beside it, or the shared one, as the arm says."""
    sidecar, own = endpoints.address_of("sidecar"), endpoints.address_of("resolver")
    resolver = _TimedResolver(caller, shared if arm.startswith("shared") else own)
    return _Asker(Client(arm, caller, _STRATEGIES[arm](resolver, RpcChannel((sidecar,), beside(sidecar)))), resolver)


@dataclass(frozen=True, slots=True)
class Round:
    """One round of one arm.

    Attributes:
        p50: of its requests, ms, from when each was due to its answer.
        questions: how long each question to a resolver took, ms.
        requests: how many there were.
    """

    p50: float
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
            return result(*uvloop.run(_measure(inner.lab, address, [*beside, pid], rounds, outer.say)))


def result(seen: Mapping[str, Sequence[Round]], cpu: Mapping[str, Sequence[float]]) -> BenchResult:
    """What follows from the rounds of each arm, and of those of :data:`BUSY_ARMS` from resolvers' CPU, ms per 1,000."""
    p50 = {arm: [each.p50 for each in taken] for arm, taken in seen.items()}
    added = {arm: _added(seen, arm) for arm in ARMS if arm != ONCE}
    same = control(UNLEASED, p50[UNLEASED], p50[AGAIN])
    doubts = (same.doubt,) if same.doubt else ()
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
                doubts=doubts,
            ),
            Claim(
                text="processor time of resolvers, leased / unleased",
                figure=median_ratio(cpu[LEASED], cpu[UNLEASED], seed=0),
                at_most=CPU_BOUND,
            ),
            Claim(
                text=f"share of calls that a lease answered, rules by {len(_CONTEXTS)} contexts",
                figure=compare.median([each.hits for each in seen[LEASED]], seed=0),
                at_least=HITS_BOUND,
            ),
            Claim(
                text="what unleased calls add, shared resolver / one beside each caller, p50",
                figure=added_ratio(p50[SHARED_UNLEASED], p50[UNLEASED], p50[ONCE], seed=0),
                at_most=SHARED_BOUND,
                doubts=doubts,
            ),
        ],
        controls=[same],
        tables=[_table(seen, cpu)],
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
            f"n = {rounds} rounds × {CALLERS} callers × {REQUESTS} requests an arm; a caller sends every {EVERY_MS} ms",
            "by all arms in turn, in an order drawn anew each turn; latency counts from when a request was due",
            "callers begin with a lease for each context, and renew it after 30 s",
            "rules by user read user_id, so each user has a lease of its own; every request is of a new user",
            f"processor time: {CALLERS * BUSY_REQUESTS} more requests an arm and round, as fast as they are answered",
            "the kernel counts it in steps of 10 ms",
            "all on one loopback: between machines a shared resolver is a network hop away, and one beside is not",
        ],
    )


def _table(seen: Mapping[str, Sequence[Round]], cpu: Mapping[str, Sequence[float]]) -> ResultTable:
    rows = []
    for arm, taken in seen.items():
        added = compare.median(_added(seen, arm), seed=0)
        questions = [each for one in taken for each in one.questions]
        # Nearest rank, upwards; an interval over so many would take longer than the measurement.
        resolve = [float(np.quantile(questions, share, method="higher")) for share in (0.5, 0.99) if questions]
        rows.append(
            (
                arm,
                median(each.p50 for each in taken),
                added.estimate,
                f"{added.low:.3f} to {added.high:.3f}",
                *(resolve or ("none", "none")),
                f"{100 * (1 - len(questions) / sum(each.requests for each in taken)):.1f} %",
                median(cpu[arm]) if arm in cpu else "",
            )
        )
    columns = ("arm", "p50", "added", "95 % interval", "resolve p50", "resolve p99", "not asked", "CPU")
    title = "ms; resolving over all rounds; calls for which nobody was asked; resolvers' CPU, ms per 1,000 requests"
    return ResultTable(title=title, columns=columns, rows=rows, numbers=columns[1:])


def _added(seen: Mapping[str, Sequence[Round]], arm: str) -> list[float]:
    return [each.p50 - once.p50 for each, once in zip(seen[arm], seen[ONCE], strict=True)]


async def _measure(
    lab: Lab, shared: str, pids: Sequence[int], rounds: int, say: Callable[[str], None]
) -> tuple[dict[str, list[Round]], dict[str, list[float]]]:
    where, asking = lab.endpoints().clients, _Asking(lab.routes.show().document or {}, Random(0))  # noqa: S311 (no secret)
    clients: dict[str, list[_Asker]] = {}
    seen: dict[str, list[Round]] = {arm: [] for arm in ARMS}
    cpu: dict[str, list[float]] = {arm: [] for arm in BUSY_ARMS}
    try:
        for arm in ARMS:
            clients[arm] = [_opened(arm, name, where[name], shared) for name in _NAMES]
        await asyncio.gather(*(each.client.ready() for of_arm in clients.values() for each in of_arm))
        # Each knows beforehand what it can know.
        for asked in _CONTEXTS:
            for of_arm in clients.values():
                asks = (asking.ask(name, asker, where=asked) for name, asker in zip(_NAMES, of_arm, strict=True))
                await asyncio.gather(*asks)
        for number, order in enumerate([list(BUSY_ARMS), *interleave(list(BUSY_ARMS), rounds, seed=0)]):
            say(f"round {number} of {rounds}" if number else "warming up")
            taken = await _in_turns(clients, asking)
            busy = {arm: await _busy(clients[arm], asking, pids) for arm in order}
            for arm in ARMS if number else ():
                seen[arm].append(taken[arm])
            for arm in order if number else ():
                cpu[arm].append(busy[arm])
    finally:
        await asyncio.gather(*(each.client.close() for of_arm in clients.values() for each in of_arm))
    return seen, cpu


@dataclass(frozen=True, slots=True)
class _Asking:
    """Makes requests, and looks at the answers.

    Attributes:
        document: the route table that answers are held against.
        draw: of users and contexts.
    """

    document: Mapping[str, Any]
    draw: Random

    async def ask(
        self, name: str, asker: _Asker, use_case: str = _BY_CONTEXT, where: tuple[str, str] | None = None
    ) -> None:
        """One request of a new user.

        Args:
            name: of the caller.
            asker: its own.
            use_case: what for.
            where: device and country; drawn if left out.

        Raises:
            UnitError: it was answered by another version than the rules want.
        """
        device, country = where or self.draw.choice(_CONTEXTS)
        context = {"user_id": f"u{self.draw.getrandbits(48):x}", "device": device, "country": country}
        answer = await asker.client.call(use_case, _REQUEST, context)
        by = answer.response.answered_by.version
        wanted = decide(self.document, use_case, {**context, "caller": name}).version
        if by != wanted:
            raise UnitError(f"{use_case} for {context} was answered by {by}, not by {wanted}")


async def _in_turns(clients: Mapping[str, Sequence[_Asker]], asking: _Asking) -> dict[str, Round]:
    """One round of all arms: what happens to the machine meanwhile happens to all of them alike."""
    latencies: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for asker in (asker for of_arm in clients.values() for asker in of_arm):
        asker.resolver.questions.clear()

    def sender(place: int) -> Callable[[int], Awaitable[None]]:
        turns = iter([arm for _ in range(REQUESTS) for arm in asking.draw.sample(ARMS, len(ARMS))])

        async def send(arm: str, due_ns: int) -> None:
            await asking.ask(_NAMES[place], clients[arm][place], _BY_USER if arm == BY_USER else _BY_CONTEXT)
            latencies[arm].append((monotonic_ns() - due_ns) / _NS_PER_MS)

        return lambda due_ns: send(next(turns), due_ns)

    numbers = range(REQUESTS * len(ARMS))
    await asyncio.gather(
        *(
            send_on_time(sender(place), every_ms=EVERY_MS, numbers=numbers, offset_ms=place * EVERY_MS // CALLERS)
            for place in range(CALLERS)
        )
    )
    return {
        arm: Round(
            median(latencies[arm]),
            [each for asker in clients[arm] for each in asker.resolver.questions],
            len(latencies[arm]),
        )
        for arm in ARMS
    }


async def _busy(clients: Sequence[_Asker], asking: _Asking, pids: Sequence[int]) -> float:
    """Processor time that the resolvers take while every caller asks again as soon as it is answered, ms per 1,000."""

    async def one_after_the_other(name: str, asker: _Asker) -> None:
        for _ in range(BUSY_REQUESTS):
            await asking.ask(name, asker)

    before = sum(map(cpu_seconds, pids))
    await asyncio.gather(*map(one_after_the_other, _NAMES, clients))
    cpu_ms = (sum(map(cpu_seconds, pids)) - before) * _MS_PER_S
    return cpu_ms * _PER_THOUSAND / (len(clients) * BUSY_REQUESTS)
