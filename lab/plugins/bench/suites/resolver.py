"""What resolving costs: with leases and without, with a resolver beside each caller and with a shared one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random
from statistics import median
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

import numpy as np
import uvloop

from lab.checkers.plain import decide
from lab.client import Client, ResolverClient, RpcChannel
from lab.client.resolver import RESOLVE_TIMEOUT_S
from lab.client.strategies import Leased, Unleased
from lab.errors import UnitError
from lab.measure import compare
from lab.measure.compare import added_ratio, interleave, median_ratio
from lab.measure.control import control
from lab.plugins.bench.harness.bench import Bench
from lab.plugins.bench.harness.charts import MIXED, chart_of_medians
from lab.plugins.bench.harness.environment import cpu_seconds, open_small_environment
from lab.plugins.bench.harness.result import BenchResult, Claim, ResultTable
from lab.plugins.bench.harness.senders import all_ready, send_at_fixed_rate
from lab.plugins.bench.harness.trials import Trials
from lab.report.palette import topology_style
from lab.transport.channels import beside
from models.apis import APIS

if TYPE_CHECKING:
    from lab.client import Endpoints, Strategy
    from lab.client.resolver import ResolvedDecision
    from lab.plugins.bench.harness.environment import Environment
    from lab.routing.attempts import Decision, RequestAttempts

CALLERS = 4
EVERY_MS = 20
"""Between two requests of one caller, over all variants."""

REQUESTS = 20
"""Of one caller, in each round of a variant."""

BUSY_REQUESTS = 50
"""The same, while processor time is measured."""

LEASED_BOUND, CPU_BOUND, SHARED_BOUND, HITS_BOUND = 0.2, 0.25, 1.25, 0.95

ONCE, LEASED, BY_USER = "decided once", "leased", "leased, rules by user"
UNLEASED, AGAIN = "unleased", "unleased, again"
SHARED_LEASED, SHARED_UNLEASED = "shared, leased", "shared, unleased"
BUSY_VARIANTS = (LEASED, UNLEASED, SHARED_LEASED, SHARED_UNLEASED)
"""Variants whose processor time is measured."""

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
    """Records how long each request to the resolver took, ms."""

    def __init__(self, caller: str, address: str) -> None:
        super().__init__(caller, address)
        self.questions: list[float] = []

    async def resolve(
        self, attempts: RequestAttempts, context: Mapping[str, str], timeout_s: float = RESOLVE_TIMEOUT_S
    ) -> ResolvedDecision:
        """See :class:`ResolverClient`."""
        began = monotonic_ns()
        try:
            return await super().resolve(attempts, context, timeout_s)
        finally:
            self.questions.append((monotonic_ns() - began) / _NS_PER_MS)


class _Once(Unleased):
    """Resolves each context once: calls without the cost of a decision. It knows which fields the rules read."""

    def __init__(self, resolver: ResolverClient, channel: RpcChannel) -> None:
        super().__init__(resolver, channel)
        self._known: dict[tuple[str, str], tuple[RpcChannel, Decision]] = {}

    async def decide(self, attempts: RequestAttempts, context: Mapping[str, str]) -> tuple[RpcChannel, Decision]:
        """Returns the first decision for device and country."""
        key = context["device"], context["country"]
        if key not in self._known:
            self._known[key] = await super().decide(attempts, context)
        return self._known[key]


_STRATEGIES_AND_STYLES: Mapping[str, tuple[Callable[[ResolverClient, RpcChannel], Strategy], str]] = {
    ONCE: (_Once, "run-7"),
    LEASED: (Leased, topology_style("mesh")),
    BY_USER: (Leased, "run-5"),
    UNLEASED: (Unleased, topology_style("mesh-unleased")),
    AGAIN: (Unleased, topology_style("mesh-unleased")),
    SHARED_LEASED: (Leased, "run-4"),
    SHARED_UNLEASED: (Unleased, "run-4"),
}
VARIANTS = tuple(_STRATEGIES_AND_STYLES)


class _Caller:
    """A caller by one variant: sends through its sidecar, asks its own resolver or the shared one, checks answers."""

    def __init__(
        self, variant: str, name: str, endpoints: Endpoints, shared: str, document: Mapping[str, Any], draw: Random
    ) -> None:
        sidecar, own = endpoints.address_of("sidecar"), endpoints.address_of("resolver")
        self.resolver = _TimedResolver(name, shared if variant.startswith("shared") else own)
        strategy, _ = _STRATEGIES_AND_STYLES[variant]
        self.client = Client(variant, name, strategy(self.resolver, RpcChannel((sidecar,), beside(sidecar))))
        self._name, self._use_case = name, _BY_USER if variant == BY_USER else _BY_CONTEXT
        self._document, self._draw = document, draw

    async def ask(self, where: tuple[str, str] | None = None) -> None:
        """Sends one request of a new user, with this device and country or random ones.

        Raises:
            UnitError: another version answered than the rules choose.
        """
        device, country = where or self._draw.choice(_CONTEXTS)
        context = {"user_id": f"u{self._draw.getrandbits(48):x}", "device": device, "country": country}
        answer = await self.client.call(self._use_case, _REQUEST, context)
        by = answer.response.answered_by.version
        wanted = decide(self._document, self._use_case, {**context, "caller": self._name}).version
        if by != wanted:
            raise UnitError(f"{self._use_case} for {context} was answered by {by}, not by {wanted}")


@dataclass(frozen=True, slots=True)
class Round:
    """One round of one variant: p50 of its requests from when they were due, ms, and the time of each resolve, ms."""

    p50: float
    questions: Sequence[float]
    requests: int

    @property
    def hits(self) -> float:
        """Share of the requests that needed no resolve."""
        return 1 - len(self.questions) / self.requests


def run(outer: Environment, rounds: int) -> BenchResult:
    """Drives several callers at once, in a lab of its own with a resolver beside each and one that they share."""
    with open_small_environment(outer.say, _SPEC, _ROUTES) as inner:
        address = inner.address(_SHARED)
        flags = ("--listen", address, "--control-plane", inner.lab.endpoints().control_plane)
        inner.lab.admit_node(_SHARED, next(iter(inner.state.plan.callers)))
        pid = inner.start(_SHARED, ("python", "-m", "services.resolver", "--name", _SHARED, *flags), address)
        beside = [inner.state.running[unit.name].pid for unit in inner.state.plan.with_role("resolver")]
        return result(*uvloop.run(_measure(inner.within(outer), address, [*beside, pid], rounds)))


def result(seen: Mapping[str, Sequence[Round]], cpu: Mapping[str, Sequence[float]]) -> BenchResult:
    """Returns the result of each variant's rounds, and of all resolvers' CPU by variant, ms per 1,000 requests."""
    p50 = {variant: [each.p50 for each in measured] for variant, measured in seen.items()}
    added = {variant: _added(seen, variant) for variant in VARIANTS if variant != ONCE}
    same = control(UNLEASED, p50[UNLEASED], p50[AGAIN])
    doubts = (same.doubt,) if same.doubt else ()
    rounds = len(p50[ONCE])
    styles = {variant: style for variant, (_, style) in _STRATEGIES_AND_STYLES.items()}
    return BenchResult(
        unit=MIXED,
        samples={
            **{f"{variant}, p50, ms": values for variant, values in p50.items()},
            **{f"{variant}, resolvers, CPU ms per 1,000 requests": values for variant, values in cpu.items()},
        },
        claims=[
            Claim(
                "what leased calls add / what unleased add, over calls decided once, p50",
                added_ratio(p50[LEASED], p50[UNLEASED], p50[ONCE]),
                at_most=LEASED_BOUND,
                doubts=doubts,
            ),
            Claim(
                "processor time of resolvers, leased / unleased",
                median_ratio(cpu[LEASED], cpu[UNLEASED]),
                at_most=CPU_BOUND,
            ),
            Claim(
                f"share of calls that a lease answered, rules by {len(_CONTEXTS)} contexts",
                compare.median([each.hits for each in seen[LEASED]]),
                at_least=HITS_BOUND,
            ),
            Claim(
                "what unleased calls add, shared resolver / one beside each caller, p50",
                added_ratio(p50[SHARED_UNLEASED], p50[UNLEASED], p50[ONCE]),
                at_most=SHARED_BOUND,
                doubts=doubts,
            ),
        ],
        controls=[same],
        tables=[_table(seen, cpu)],
        charts=[
            chart_of_medians(title, unit, samples, styles=styles, name=name)
            for name, title, unit, samples in (
                (
                    "added",
                    "What a decision adds to a call, over calls decided once",
                    "ms added to the median call",
                    added,
                ),
                ("cpu", "Processor time of resolvers", "processor time of all resolvers, ms per 1,000 requests", cpu),
            )
        ],
        notes=[
            f"n = {rounds} rounds × {CALLERS} callers × {REQUESTS} requests a variant, one every {EVERY_MS} ms",
            "by all variants in random order; latency counts from when a request was due",
            "callers start with a lease for each context, and renew it after 30 s",
            "rules by user read user_id, so each user needs a lease; every request is of a new user",
            f"processor time: {CALLERS * BUSY_REQUESTS} more requests a round of a variant, one after the other",
            "the kernel counts processor time in steps of 10 ms",
            "all on one loopback; between machines, only the shared resolver would be a network hop away",
        ],
    )


def _table(seen: Mapping[str, Sequence[Round]], cpu: Mapping[str, Sequence[float]]) -> ResultTable:
    rows = []
    for variant, measured in seen.items():
        added = compare.median(_added(seen, variant))
        questions = [each for one in measured for each in one.questions]
        # Nearest rank, upwards; bootstrapping an interval over that many values would take longer than the measurement.
        resolve = [float(np.quantile(questions, share, method="higher")) for share in (0.5, 0.99) if questions]
        rows.append(
            (
                variant,
                median(each.p50 for each in measured),
                added.estimate,
                f"{added.low:.3f} to {added.high:.3f}",
                *(resolve or ("none", "none")),
                f"{100 * (1 - len(questions) / sum(each.requests for each in measured)):.1f} %",
                median(cpu[variant]) if variant in cpu else "",
            )
        )
    columns = ("variant", "p50", "added", "95 % interval", "resolve p50", "resolve p99", "without resolve", "CPU")
    title = "ms; resolving over all rounds; share of calls without a resolve; resolvers' CPU, ms per 1,000 requests"
    return ResultTable(title, columns, rows, numbers=columns[1:])


def _added(seen: Mapping[str, Sequence[Round]], variant: str) -> list[float]:
    return [each.p50 - once.p50 for each, once in zip(seen[variant], seen[ONCE], strict=True)]


async def _measure(
    environment: Environment, shared: str, pids: Sequence[int], rounds: int
) -> tuple[dict[str, list[Round]], dict[str, list[float]]]:
    lab = environment.lab
    where, document, draw = lab.endpoints().clients, lab.routes.show().document or {}, Random(0)  # noqa: S311 (no secret)
    callers = {
        variant: [_Caller(variant, name, where[name], shared, document, draw) for name in _NAMES]
        for variant in VARIANTS
    }
    everyone = [each.client for of_variant in callers.values() for each in of_variant]
    seen: dict[str, list[Round]] = {variant: [] for variant in VARIANTS}
    cpu: dict[str, list[float]] = {variant: [] for variant in BUSY_VARIANTS}
    async with all_ready(everyone):
        # Every client holds all leases that it can use before the first round.
        for asked in _CONTEXTS:
            for of_variant in callers.values():
                await asyncio.gather(*(each.ask(asked) for each in of_variant))
        trials = Trials(
            environment, [[tuple(order)] for order in interleave(BUSY_VARIANTS, rounds)], warm_up=[BUSY_VARIANTS]
        )
        for trial in trials:
            with trial:
                measured = await _interleaved(callers, draw)
                busy = {variant: await _busy(callers[variant], pids) for variant in trial.cell}
                trial.keep()
                if trial.number:
                    for variant in VARIANTS:
                        seen[variant].append(measured[variant])
                    for variant in BUSY_VARIANTS:
                        cpu[variant].append(busy[variant])
    trials.require_one()
    return seen, cpu


async def _interleaved(callers: Mapping[str, Sequence[_Caller]], draw: Random) -> dict[str, Round]:
    """One round of all variants, interleaved, so that the machine's load is the same for all."""
    latencies: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for caller in (caller for of_variant in callers.values() for caller in of_variant):
        caller.resolver.questions.clear()

    def sender(place: int) -> Callable[[int], Awaitable[None]]:
        order = iter([variant for _ in range(REQUESTS) for variant in draw.sample(VARIANTS, len(VARIANTS))])

        async def send(due_ns: int) -> None:
            variant = next(order)
            await callers[variant][place].ask()
            latencies[variant].append((monotonic_ns() - due_ns) / _NS_PER_MS)

        return send

    numbers = range(REQUESTS * len(VARIANTS))
    await asyncio.gather(
        *(
            send_at_fixed_rate(sender(place), every_ms=EVERY_MS, numbers=numbers, offset_ms=place * EVERY_MS // CALLERS)
            for place in range(CALLERS)
        )
    )
    return {
        variant: Round(
            median(took), [each for caller in callers[variant] for each in caller.resolver.questions], len(took)
        )
        for variant, took in latencies.items()
    }


async def _busy(callers: Sequence[_Caller], pids: Sequence[int]) -> float:
    """Processor time of resolvers, ms per 1,000 requests, while every caller sends as soon as it is answered."""

    async def one_after_the_other(caller: _Caller) -> None:
        for _ in range(BUSY_REQUESTS):
            await caller.ask()

    before = sum(map(cpu_seconds, pids))
    await asyncio.gather(*map(one_after_the_other, callers))
    cpu_ms = (sum(map(cpu_seconds, pids)) - before) * _MS_PER_S
    return cpu_ms * _PER_THOUSAND / (len(callers) * BUSY_REQUESTS)


BENCH = Bench(
    name="resolver",
    question="What does resolving cost, with leases and without, beside each caller and shared?",
    run=run,
    controls=1,
)
