"""What a decision costs: compiling a large table, changing one use case of it, resolving the worst case, a held lease.

Routing is pure computation in one thread, so its cost is its processor time. The bench's lab is used for the lease
alone, which needs a resolver and a sidecar.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lab.measure.compare import median
from lab.plugins.bench.harness.bench import Bench
from lab.plugins.bench.harness.charts import MIXED
from lab.plugins.bench.harness.result import BenchResult, Claim
from lab.plugins.bench.harness.senders import all_ready
from lab.plugins.bench.harness.trials import Trials
from lab.routing.attempts import RequestAttempts
from lab.routing.compiled import Router
from lab.topologies import open_client
from models.apis import APIS

if TYPE_CHECKING:
    from lab.plugins.bench.harness.environment import Environment

USE_CASES = 10_000
RULES = 50
UPDATES = 20
RESOLVES = 5_000
COMPILE_BOUND_S = 1.0
UPDATE_BOUND_MS = 5.0
RESOLVE_BOUND_US = 30.0
LEASED_BOUND_US = 10.0
_CALLER, _LEASED_USE_CASE = "homepage", "ContinueWatchingRanking"
_LARGE = "Large"
_LAST = {"caller": _CALLER, "device": "tv", "country": f"C{RULES - 1}", "segment": "grown-ups", "user_id": "u1"}


def run(environment: Environment, rounds: int) -> BenchResult:
    """Compiles, updates and resolves once a round."""
    document = _document()
    router = Router.of_document(document, revision=1)
    timed: dict[str, tuple[Callable[[], object], int, float]] = {
        f"compile {USE_CASES:,} use cases, s": (lambda: Router.of_document(document), 1, 1.0),
        f"update one of {USE_CASES:,}, ms": (_update(router, document), UPDATES, 1e3),
        f"update one of {USE_CASES:,} and remove a version, ms": (_removal(router, document), UPDATES, 1e3),
        f"resolve, last of {RULES} rules, µs": (_resolve(router, _LAST), RESOLVES, 1e6),
        "resolve, no rule matches, µs": (_resolve(router, {"caller": _CALLER}), RESOLVES, 1e6),
        "resolve, override, µs": (_resolve(router, _LAST | {"override": "m@v2"}), RESOLVES, 1e6),
    }
    leased = "decide, lease held, µs"
    trials = Trials(environment, [[_LARGE]] * rounds)
    for trial in trials:
        with trial:
            figures = {name: _seconds(work, times) * unit for name, (work, times, unit) in timed.items()}
            trial.keep(**figures, **{leased: asyncio.run(_seconds_with_lease(environment)) * 1e6})
    samples = trials.figures
    bounds = (COMPILE_BOUND_S, UPDATE_BOUND_MS, UPDATE_BOUND_MS, *[RESOLVE_BOUND_US] * 3, LEASED_BOUND_US)
    return BenchResult(
        unit=MIXED,
        samples=samples,
        claims=[
            Claim(name, median(values), at_most=bound)
            for (name, values), bound in zip(samples.items(), bounds, strict=True)
        ],
        notes=[
            f"n = {rounds} rounds × 1 compilation, {UPDATES} updates, {RESOLVES:,} decisions each; processor time",
            "each of the many use cases has three rules (with 'not', experiment, split), a shadow and two fallbacks",
            f"the last of {RULES} rules is an experiment; each rule before it fails at its second condition",
        ],
    )


def _seconds(work: Callable[[], object], times: int) -> float:
    """Processor time of one call, averaged over ``times`` calls."""
    began = time.process_time_ns()
    for _ in range(times):
        work()
    return (time.process_time_ns() - began) / 1e9 / times


async def _seconds_with_lease(environment: Environment) -> float:
    """Processor time of one decision of a mesh client that holds a lease."""
    context = {"user_id": "u1", "device": "tv", "country": "US"}
    client = open_client("mesh", _CALLER, environment.lab.endpoints().clients[_CALLER])
    async with all_ready([client]):
        await client.call(_LEASED_USE_CASE, APIS["ranking.v1"].build_request(0), context)
        attempts = RequestAttempts(_LEASED_USE_CASE, client.new_request_id(), time.monotonic())
        began = time.process_time_ns()
        for _ in range(RESOLVES):
            await client.strategy.decide(attempts, context)
        return (time.process_time_ns() - began) / 1e9 / RESOLVES


def _update(router: Router, document: Mapping[str, Any]) -> Callable[[], object]:
    changed = {"UseCase0": document["use_cases"]["UseCase0"]}
    return lambda: router.updated(revision=2, use_cases=changed)


def _removal(router: Router, document: Mapping[str, Any]) -> Callable[[], object]:
    """The most expensive change: any use case may refer to the removed version."""
    changed = {"UseCase0": document["use_cases"]["UseCase0"]}
    return lambda: router.updated(revision=2, use_cases=changed, removed_versions=["idle.v1"])


def _resolve(router: Router, context: Mapping[str, str]) -> Callable[[], object]:
    return lambda: router.resolve(_LARGE, context)


def _document() -> dict[str, Any]:
    """A table of many use cases, one of which has many rules."""
    use_cases = {f"UseCase{number}": _use_case(_rules(number)) for number in range(USE_CASES)}
    many = [
        {"name": f"r{number}", "when": {"device": ["tv"], "country": [f"C{number}"]}, "use": "m@v1"}
        for number in range(RULES - 1)
    ]
    cells = {"1": {"weight": 50, "use": "m@v1"}, "2": {"weight": 50, "use": "m@v2", "config": {"beam": 2}}}
    experiment = {"id": "large", "unit": "user_id", "cells": cells}
    last = {"name": "last", "when": {"device": ["tv"], "country": [f"C{RULES - 1}"]}, "experiment": experiment}
    use_cases[_LARGE] = _use_case([*many, last])
    models = {"m": {f"v{number}": {"cluster": "c", "config": {"beam": number}} for number in range(1, 4)}}
    models["idle"] = {"v1": {"cluster": "c"}}
    return {
        "use_cases": use_cases,
        "models": {name: {"versions": versions} for name, versions in models.items()},
        "clusters": {"c": {"replicas": 2}},
    }


def _use_case(rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "callers": [_CALLER, "search"],
        "override": [_CALLER],
        "api": "ranking.v1",
        "timeout": "250ms",
        "default": "m@v1",
        "rules": rules,
        "shadow": {"use": "m@v3", "percent": 10},
        "fallback": ["m@v1", "m@v3"],
    }


def _rules(number: int) -> list[dict[str, Any]]:
    cells = {"1": {"weight": 80, "use": "m@v1"}, "2": {"weight": 20, "use": "m@v2", "config": {"beam": 8}}}
    experiment = {"id": number, "unit": "user_id", "cells": cells}
    return [
        {"name": "tv", "when": {"device": ["tv"], "not": {"segment": ["kids"]}}, "use": "m@v2"},
        {"name": "ab", "when": {"country": ["DE", "AT", "CH"]}, "experiment": experiment},
        {"name": "canary", "split": {"unit": "user_id", "weights": {"m@v1": 95, "m@v2": 5}}},
    ]


BENCH = Bench(
    name="routing", question="What does a decision cost: compiling, updating, resolving, a held lease?", run=run
)
