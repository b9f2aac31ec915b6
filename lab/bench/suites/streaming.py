"""Time to the first ranked result against time to the last, unary against stream, through each topology."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

import uvloop

from lab.bench.harness.result import BenchResult, Claim, ResultTable
from lab.bench.harness.stubs import constant_latency
from lab.errors import UnitError
from lab.measure import compare
from lab.measure.compare import interleave
from lab.measure.control import control
from lab.report.bars import Bar, BarChart, BarGroup, Bound
from lab.report.scales import linear
from lab.topologies import open_client
from models.apis import APIS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from lab.bench.harness.environment import Setting
    from lab.client import Client, Endpoints
    from lab.measure.compare import Interval

NAME = "streaming"

PAIRS = 6
"""Requests of each kind, an arm and round; a round's figure is their median."""

ITEMS = 10
ITEM_MS = 4.0
SERVICE_MS = ITEMS * ITEM_MS
"""What the stub takes for a request; a stream gets an item each tenth of it, so both are the same work."""

FIRST_BOUND, LAST_BOUND, GAP_BOUND = 1.5, 1.1, 2.0

_API = APIS["ranking.v1"]
_USE_CASE, _CLUSTER, _CALLER = "UpNext", "ml-cluster-5", "playback"
_CONTEXT = {"user_id": "u1"}
_REQUEST = _API.build_request(400)
_NS_PER_MS = 1e6
_KINDS = {"first": "first item", "last": "last item", "unary": "unary answer", "gap": "longest gap"}
_STYLES = {"first": "run-3", "last": "run-1", "unary": "run-7"}


@dataclass(frozen=True, slots=True)
class Times:
    """One round of one arm, ms: medians over its requests.

    Attributes:
        unary: from the request to the whole answer.
        first: from the request to a stream's first item.
        last: from the request to its last.
        gap: the longest time between two items of a stream.
    """

    unary: float
    first: float
    last: float
    gap: float


def run(setting: Setting, rounds: int) -> BenchResult:
    """Asks each topology of the lab, one request at a time, in turns for the whole answer and for a stream."""
    endpoints = setting.lab.endpoints().clients[_CALLER]
    ways = {topology: (topology, endpoints) for topology in setting.state.topologies}
    twice = next(iter(ways))
    with constant_latency(setting.replicas(_CLUSTER), SERVICE_MS):
        seen = uvloop.run(measure({**ways, f"{twice}, again": ways[twice]}, rounds, setting.say))
    return result(seen, twice=twice)


def result(seen: Mapping[str, Sequence[Times]], *, twice: str) -> BenchResult:
    """What follows from the rounds of each topology, and of ``{twice}, again``, which is one of them measured twice."""
    again = seen[f"{twice}, again"]
    ways = {arm: times for arm, times in seen.items() if times is not again}
    rounds = len(again)
    same = control(f"first item, {twice}", [each.first for each in seen[twice]], [each.first for each in again])
    doubts = (same.doubt,) if same.doubt else ()
    claims = [
        Claim(
            text=f"first item / (one item's time + what the way costs), {way}",
            figure=lateness(times),
            at_most=FIRST_BOUND,
            doubts=doubts,
        )
        for way, times in ways.items()
    ]
    slowest, last = _worst(ways, lambda each: each.last / each.unary)
    unsteadiest, gap = _worst(ways, lambda each: each.gap / ITEM_MS)
    claims += [
        Claim(
            text=f"last item / unary answer, slowest way ({slowest})", figure=last, at_most=LAST_BOUND, doubts=doubts
        ),
        Claim(
            text=f"longest gap between items / one item's time, unsteadiest way ({unsteadiest})",
            figure=gap,
            at_most=GAP_BOUND,
            doubts=doubts,
        ),
    ]
    return BenchResult(
        name=NAME,
        unit="ms",
        arms={
            f"{arm}, {kind}": [getattr(each, name) for each in times]
            for arm, times in seen.items()
            for name, kind in _KINDS.items()
        },
        claims=claims,
        controls=[same],
        tables=[_table(seen)],
        charts=[_chart(ways)],
        notes=[
            f"n = {rounds} rounds × {PAIRS} requests of each kind an arm, one at a time, order drawn anew each round",
            f"the stub takes {SERVICE_MS:g} ms for a unary answer; a stream's {ITEMS} items are {ITEM_MS:g} ms apart",
            "what a way costs is its unary answer less that: a way that holds items back is late beyond its own cost",
        ],
    )


def _table(seen: Mapping[str, Sequence[Times]]) -> ResultTable:
    rows = []
    for way, times in seen.items():
        figures = [median(getattr(each, name) for each in times) for name in _KINDS]
        sooner = _median(each.first / each.unary for each in times)
        rows.append((way, *figures, sooner.estimate, f"{sooner.low:.3f} to {sooner.high:.3f}"))
    columns = ("way", *_KINDS.values(), "first / unary", "95 % interval")
    title = "median over rounds, ms; the first item as a share of the unary answer's time"
    return ResultTable(title=title, columns=columns, rows=rows, numbers=columns[1:])


def _chart(ways: Mapping[str, Sequence[Times]]) -> BarChart:
    figures = {
        way: {name: _median(getattr(each, name) for each in times) for name in _STYLES} for way, times in ways.items()
    }
    longest = max(figure.estimate for of_way in figures.values() for figure in of_way.values())
    groups = [
        BarGroup(way, [Bar(_KINDS[name], _STYLES[name], it.estimate, it.low, it.high) for name, it in of_way.items()])
        for way, of_way in figures.items()
    ]
    rounds = max(map(len, ways.values()))
    return BarChart(
        "When a stream's first and last results come, and a whole answer",
        linear("ms since the request", longest),
        groups,
        bounds=[Bound("one item's time", ITEM_MS)],
        name="times",
        note=f"{ITEMS} items, {ITEM_MS:g} ms each. Medians over n = {rounds} rounds, with 95 % intervals.",
    )


def lateness(times: Sequence[Times]) -> Interval:
    """When the first item came, as a multiple of when it could: after an item's time, and what the way costs anyway."""
    could = [ITEM_MS + each.unary - SERVICE_MS for each in times]
    return compare.median_ratio([each.first for each in times], could, seed=0)


async def measure(
    ways: Mapping[str, tuple[str, Endpoints]], rounds: int, say: Callable[[str], None]
) -> dict[str, list[Times]]:
    """Every arm once a round, after one round that only warms up.

    Args:
        ways: arm → topology, and where things are.
        rounds: how many.
        say: told what is being measured.

    Raises:
        UnitError: a stream's items are not the unary answer's.
    """
    clients = {arm: open_client(topology, _CALLER, endpoints) for arm, (topology, endpoints) in ways.items()}
    seen: dict[str, list[Times]] = {arm: [] for arm in ways}
    try:
        for client in clients.values():
            await client.ready()
        for number, order in enumerate([list(ways), *interleave(list(ways), rounds, seed=0)]):
            for arm in order:
                say(f"round {number} of {rounds}: {arm}" if number else f"warming up {arm}")
                times = await _times(clients[arm], arm)
                if number:
                    seen[arm].append(times)
    finally:
        for client in clients.values():
            await client.close()
    return seen


async def _times(client: Client, arm: str) -> Times:
    pairs = [await _pair(client, arm) for _ in range(PAIRS)]
    return Times(*(median(getattr(pair, field.name) for pair in pairs) for field in fields(Times)))


async def _pair(client: Client, arm: str) -> Times:
    began = time.perf_counter_ns()
    whole = await client.call(_USE_CASE, _REQUEST, _CONTEXT)
    unary = time.perf_counter_ns() - began
    items, arrivals = [], []
    began = time.perf_counter_ns()
    async for answer in client.stream(_USE_CASE, _REQUEST, _CONTEXT):
        arrivals.append(time.perf_counter_ns() - began)
        items.append(answer.response.title)
    if len(items) != ITEMS or items != list(whole.response.titles):
        raise UnitError(f"{arm}: the stream's {len(items)} items are not the {ITEMS} of the unary answer")
    gap = max(later - earlier for earlier, later in pairwise(arrivals))
    return Times(*(ns / _NS_PER_MS for ns in (unary, arrivals[0], arrivals[-1], gap)))


def _worst(ways: Mapping[str, Sequence[Times]], figure: Callable[[Times], float]) -> tuple[str, Interval]:
    """The way whose median over the rounds is the greatest, and that."""
    medians = {way: _median(figure(each) for each in times) for way, times in ways.items()}
    worst = max(medians, key=lambda way: medians[way].estimate)
    return worst, medians[worst]


def _median(values: Iterable[float]) -> Interval:
    return compare.median(list(values), seed=0)
