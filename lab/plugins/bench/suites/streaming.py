"""Time to a stream's first and last result, and to a unary answer, by each topology."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

import uvloop

from lab.errors import UnitError
from lab.measure import compare
from lab.measure.compare import interleave
from lab.measure.control import control
from lab.plugins.bench.harness.bench import TOPOLOGIES_OPTION, Bench
from lab.plugins.bench.harness.charts import chart_of_bars
from lab.plugins.bench.harness.result import BenchResult, Claim, ResultTable
from lab.plugins.bench.harness.senders import all_ready
from lab.plugins.bench.harness.stubs import constant_latency
from lab.plugins.bench.harness.trials import Trials
from lab.plugins.bench.harness.variant import API, CALLER, CLUSTER, USE_CASE, Variant, extreme_path
from lab.report.bars import BarChart, Bound
from lab.topologies import TOPOLOGIES, open_client
from models.apis import APIS

if TYPE_CHECKING:
    from lab.client import Client
    from lab.measure.compare import Interval
    from lab.plugins.bench.harness.environment import Environment

PAIRS = 6
"""Requests of each kind in each round of a variant; the round's figure is their median."""

ITEMS = 10
ITEM_MS = 4.0
SERVICE_MS = ITEMS * ITEM_MS
"""Service time of the stub; a stream gets an item after each tenth of it, so both kinds are the same work."""

FIRST_BOUND, LAST_BOUND, GAP_BOUND = 1.5, 1.1, 2.0

_CONTEXT = {"user_id": "u1"}
_REQUEST = APIS[API].build_request(400)
_NS_PER_MS = 1e6
_KINDS = {"first": "first item", "last": "last item", "unary": "unary answer", "gap": "longest gap"}
_STYLES = {"first": "run-3", "last": "run-1", "unary": "run-7"}


@dataclass(frozen=True, slots=True)
class Times:
    """One round of one variant, ms: medians over its requests.

    From the request to the whole unary answer, to a stream's first item and to its last, and its longest gap.
    """

    unary: float
    first: float
    last: float
    gap: float


def run(environment: Environment, rounds: int, *, topologies: Sequence[str] = ()) -> BenchResult:
    """Sends one request at a time by each topology, alternately for a unary answer and for a stream."""
    endpoints = environment.lab.endpoints().clients[CALLER]
    compared = [each for each in topologies or environment.topologies if TOPOLOGIES[each].capabilities.streaming]
    variants = [Variant(each, each, endpoints) for each in compared]
    again = Variant(f"{compared[0]}, again", compared[0], endpoints)
    with constant_latency(environment.replicas(CLUSTER), SERVICE_MS):
        seen = uvloop.run(measure([*variants, again], rounds, environment))
    return result(seen, twice=compared[0])


def result(seen: Mapping[str, Sequence[Times]], *, twice: str) -> BenchResult:
    """Returns the result of the rounds of each topology, and of ``{twice}, again``, the one that is measured twice."""
    again = seen[f"{twice}, again"]
    paths = {variant: times for variant, times in seen.items() if times is not again}
    rounds = len(again)
    same = control(f"first item, {twice}", [each.first for each in seen[twice]], [each.first for each in again])
    doubts = (same.doubt,) if same.doubt else ()
    claims = [
        Claim(
            f"first item / (one item's time + the path's overhead), {path}",
            lateness(times),
            at_most=FIRST_BOUND,
            doubts=doubts,
        )
        for path, times in paths.items()
    ]
    slowest, last = extreme_path(paths, paths, lambda each: each.last / each.unary)
    unsteadiest, gap = extreme_path(paths, paths, lambda each: each.gap / ITEM_MS)
    claims += [
        Claim(f"last item / unary answer, slowest path ({slowest})", last, at_most=LAST_BOUND, doubts=doubts),
        Claim(
            f"longest gap between items / one item's time, unsteadiest path ({unsteadiest})",
            gap,
            at_most=GAP_BOUND,
            doubts=doubts,
        ),
    ]
    return BenchResult(
        unit="ms",
        samples={
            f"{variant}, {kind}": [getattr(each, name) for each in times]
            for variant, times in seen.items()
            for name, kind in _KINDS.items()
        },
        claims=claims,
        controls=[same],
        tables=[_table(seen)],
        charts=[_chart(paths)],
        notes=[
            f"n = {rounds} rounds × {PAIRS} requests of each kind a variant, one at a time, in random order",
            f"the stub takes {SERVICE_MS:g} ms for a unary answer; a stream's {ITEMS} items are {ITEM_MS:g} ms apart",
            "a path's overhead is its unary time less that; a path that holds items back is late by more than that",
        ],
    )


def _table(seen: Mapping[str, Sequence[Times]]) -> ResultTable:
    rows: list[tuple[float | str, ...]] = []
    for path, times in seen.items():
        figures = [compare.typical([getattr(each, name) for each in times]) for name in _KINDS]
        sooner = compare.median(each.first / each.unary for each in times)
        rows.append((path, *figures, sooner.estimate, f"{sooner.low:.3f} to {sooner.high:.3f}"))
    columns = ("path", *_KINDS.values(), "first / unary", "95 % interval")
    title = "median over rounds, ms; the first item as a share of the unary answer's time"
    return ResultTable(title, columns, rows, numbers=columns[1:])


def _chart(paths: Mapping[str, Sequence[Times]]) -> BarChart:
    rounds = max(map(len, paths.values()))
    return chart_of_bars(
        "When a stream's first and last results arrive, and a unary answer",
        "ms since the request",
        {
            path: {_KINDS[name]: compare.median(getattr(each, name) for each in times) for name in _STYLES}
            for path, times in paths.items()
        },
        styles={_KINDS[name]: style for name, style in _STYLES.items()},
        bounds=[Bound("one item's time", ITEM_MS)],
        name="times",
        note=f"{ITEMS} items, {ITEM_MS:g} ms each. Medians over n = {rounds} rounds, with 95 % intervals.",
    )


def lateness(times: Sequence[Times]) -> Interval:
    """Returns the time of the first item, over the earliest possible: one item's time plus the path's overhead."""
    could = [ITEM_MS + each.unary - SERVICE_MS for each in times]
    return compare.median_ratio([each.first for each in times], could)


async def measure(variants: Sequence[Variant], rounds: int, environment: Environment) -> dict[str, list[Times]]:
    """Measures every variant once a round, after a warm-up round.

    Raises:
        UnitError: no trial succeeded: a stream's items are not the unary answer's.
    """
    clients = {each.name: open_client(each.topology, CALLER, each.endpoints) for each in variants}
    trials = Trials(environment, interleave(clients, rounds), warm_up=list(clients))
    async with all_ready(clients.values()):
        for trial in trials:
            with trial:
                trial.keep(**asdict(await _times(clients[trial.cell], trial.cell)))
    samples = trials.samples
    return {
        name: [Times(*row) for row in zip(*(samples[name, field.name] for field in fields(Times)), strict=True)]
        for name in clients
    }


async def _times(client: Client, name: str) -> Times:
    pairs = [await _pair(client, name) for _ in range(PAIRS)]
    return Times(*(median(getattr(pair, field.name) for pair in pairs) for field in fields(Times)))


async def _pair(client: Client, name: str) -> Times:
    began = time.perf_counter_ns()
    whole = await client.call(USE_CASE, _REQUEST, _CONTEXT)
    unary = time.perf_counter_ns() - began
    items, arrivals = [], []
    began = time.perf_counter_ns()
    async for answer in client.stream(USE_CASE, _REQUEST, _CONTEXT):
        arrivals.append(time.perf_counter_ns() - began)
        items.append(answer.response.title)
    if len(items) != ITEMS or items != list(whole.response.titles):
        raise UnitError(f"{name}: the stream's {len(items)} items are not the {ITEMS} of the unary answer")
    gap = max(later - earlier for earlier, later in pairwise(arrivals))
    return Times(*(ns / _NS_PER_MS for ns in (unary, arrivals[0], arrivals[-1], gap)))


BENCH = Bench(
    name="streaming",
    question="When do a stream's first and last results arrive, by each topology, and when a unary answer?",
    run=run,
    options=(TOPOLOGIES_OPTION,),
    controls=1,
)
