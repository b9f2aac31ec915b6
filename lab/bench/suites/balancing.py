"""Connections or requests: how evenly each way of balancing spreads them, and how soon a new replica gets its share."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import uvloop

from lab.bench.harness.balance_stats import AFTER_S, BEFORE_S, SETTLED_S, share_between
from lab.bench.harness.environment import setting
from lab.bench.harness.result import BenchResult, Claim, ResultTable
from lab.bench.harness.scale_out import CALLER, CLUSTER, INTERVALS_MS, MODEL, REPLICAS, USE_CASE, VERSION, Side, measure
from lab.bench.harness.vip import L4, L7, Replicas, start_vip
from lab.measure import compare
from lab.report.bars import Bar, BarChart, BarGroup, Bound
from lab.report.chart import Chart, Line
from lab.report.scales import linear

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from lab.bench.harness.balance_stats import Round
    from lab.bench.harness.environment import Setting
    from lab.measure.compare import Interval

NAME = "balancing"

RENEWAL_S = 0.8
"""How old a connection gets where it is renewed."""

SPREAD_BOUND, UNEVEN_BOUND, SHARE_BOUND, RENEWED_BOUND = 1.15, 1.1, 0.85, 0.5

L4_KEPT, L4_CUT, L4_AGED = "L4", "L4, VIP cuts connections", "L4, models end connections"
L7_VIP = "L7"
HARD_CODED = "direct"
"""The topology whose addresses do not follow; that is what is wrong with it."""

_FIGURES = {"spread_before": "busiest before", "spread_after": "busiest after", "share": "new replica"}

_CONNECTIONS = (L4_KEPT, L4_CUT, L4_AGED)
_STYLES = {L4_KEPT: "run-2", L4_CUT: "run-5", L4_AGED: "run-4", L7_VIP: "run-1"}
_STEP_S = 0.2

ALIKE = {"mesh-unleased": "mesh", "gateway-passthrough": "gateway"}
"""Ways through the very same balancer as another, which are left out where that other is in.

Two streams at fixed times would each take every other turn of it, or every third, and look uneven where both together
are not.
"""

# The same cluster once more, its models of the kind that end old connections; each lab has one kind only.
_SPEC = f"""
topologies = ["direct"]
routes = "routes.yaml"
[callers.{CALLER}]
[stub]
max_connection_age_s = {RENEWAL_S}
"""
_ROUTES = f"""
use_cases:
  {USE_CASE}: {{callers: [{CALLER}], api: ranking.v1, timeout: 2s, default: {MODEL}@{VERSION}}}
models:
  {MODEL}: {{versions: {{{VERSION}: {{cluster: {CLUSTER}}}}}}}
clusters:
  {CLUSTER}: {{replicas: {REPLICAS}}}
"""


def run(outer: Setting, rounds: int) -> BenchResult:
    """Sends by all ways at once; in each round a replica is added, and taken away afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "routes.yaml").write_text(_ROUTES)
        (Path(folder) / "lab.toml").write_text(_SPEC)
        with setting(outer.say, Path(folder) / "lab.toml") as inner:
            sides = [
                _side(outer, Path(folder) / "plain.json", {L4_KEPT: (L4, 0), L4_CUT: (L4, RENEWAL_S), L7_VIP: (L7, 0)}),
                _side(inner, Path(folder) / "aged.json", {L4_AGED: (L4, 0)}),
            ]
            there = outer.state.topologies
            topologies = [each for each in there if ALIKE.get(each) not in there]
            return result(uvloop.run(measure(sides, topologies, rounds, outer.say)))


def _side(where: Setting, file: Path, vips: Mapping[str, tuple[str, float]]) -> Side:
    replicas = Replicas(file)
    replicas.write(where.replicas(CLUSTER))
    addresses = {
        way: start_vip(where, f"vip-{number}", template, replicas, renewal_s=renewal_s)
        for number, (way, (template, renewal_s)) in enumerate(vips.items(), start=1)
    }
    return Side(where, replicas, addresses)


def result(seen: Mapping[str, Sequence[Round]]) -> BenchResult:
    """What follows from the rounds of each way."""
    seen = {way: seen[way] for way in sorted(seen, key=_place)}
    balanced = [way for way in seen if way not in _CONNECTIONS and way != HARD_CODED]
    uneven, spread = _extreme(seen, [*balanced, *({HARD_CODED} & seen.keys())], lambda each: each.spread_before, max)
    late, share = _extreme(seen, balanced, lambda each: each.share, min)
    rounds = len(seen[L4_KEPT])
    return BenchResult(
        name=NAME,
        unit="multiples of an even share",
        arms={
            f"{way}, {what}": [getattr(each, name) for each in taken]
            for way, taken in seen.items()
            for name, what in _FIGURES.items()
        },
        claims=[
            Claim(
                text=f"busiest replica / mean, requests balanced, most uneven way ({uneven})",
                figure=spread,
                at_most=SPREAD_BOUND,
            ),
            Claim(
                text=f"busiest replica / mean, {L4_KEPT} / {L7_VIP}",
                figure=_median(
                    one.spread_before / other.spread_before
                    for one, other in zip(seen[L4_KEPT], seen[L7_VIP], strict=True)
                ),
                at_least=UNEVEN_BOUND,
            ),
            Claim(
                text=f"new replica's requests / an even share, {L4_KEPT}: none as long as connections last",
                figure=_median(each.share for each in seen[L4_KEPT]),
                at_most=0,
            ),
            Claim(
                text=f"new replica's requests / an even share, requests balanced, slowest way ({late})",
                figure=share,
                at_least=SHARE_BOUND,
            ),
            *(
                Claim(
                    text=f"new replica's requests / an even share, {way} after {RENEWAL_S:g} s",
                    figure=_median(each.share for each in seen[way]),
                    at_least=RENEWED_BOUND,
                )
                for way in (L4_CUT, L4_AGED)
            ),
            Claim(
                text=f"share of requests failed, worst round, {L4_AGED}",
                figure=compare.quantile([each.failed for each in seen[L4_AGED]], 1.0, seed=0),
                at_most=0,
            ),
        ],
        tables=[_table(seen)],
        charts=[_shares_over_time(seen), _spreads(seen)],
        notes=[
            f"n = {rounds} rounds; {REPLICAS} replicas, then one more; all ways at once",
            f"{len(INTERVALS_MS)} callers; the first sends every {INTERVALS_MS[0]} ms, the k-th 1/k of that",
            "each has one connection to each VIP, opened anew in each round, in an order drawn anew",
            f"shares are of requests sent {SETTLED_S:g} s to {AFTER_S:g} s after the replica could answer",
            f"{HARD_CODED} follows nobody; other topologies learn of replicas from the control plane, VIPs from a file",
        ],
    )


def _place(way: str) -> int:
    """VIPs first, then topologies as they come."""
    return list(_STYLES).index(way) if way in _STYLES else len(_STYLES)


def _table(seen: Mapping[str, Sequence[Round]]) -> ResultTable:
    rows = []
    for way, taken in seen.items():
        share = _median(each.share for each in taken)
        first = _median(each.first_s for each in taken).estimate
        rows.append(
            (
                way,
                *(median(getattr(each, name) for each in taken) for name in _FIGURES),
                f"{share.low:.3f} to {share.high:.3f}",
                f"{max(first, 0):.3f} s" if math.isfinite(first) else "never",
                f"{100 * sum(each.failed for each in taken) / len(taken):.2f} %",
            )
        )
    columns = ("way", *_FIGURES.values(), "95 % interval", "its first request after", "failed")
    title = "median over rounds: requests of the busiest replica / mean, and of the new replica / an even share"
    return ResultTable(title=title, columns=columns, rows=rows, numbers=columns[1:])


def _shares_over_time(seen: Mapping[str, Sequence[Round]]) -> Chart:
    steps = [step * _STEP_S for step in range(math.ceil(-BEFORE_S / 2 / _STEP_S), round(AFTER_S / _STEP_S))]
    lines = [
        Line(way, style, [(at + _STEP_S / 2, 100 * share_between(seen[way], at, at + _STEP_S)) for at in steps])
        for way, style in _STYLES.items()
    ]
    even = Line("an even share", "run-7", [(at + _STEP_S / 2, 100 / (REPLICAS + 1)) for at in steps])
    return Chart(
        "Share of the requests that a new replica gets",
        linear("seconds since the new replica could answer", AFTER_S, low=-BEFORE_S / 2),
        linear("its share of requests, %", max(value for line in (*lines, even) for _, value in line.points)),
        [*lines, even],
        name="new-replica",
        note=f"All n = {len(seen[L4_KEPT])} rounds together, in steps of {_STEP_S:g} s.",
    )


def _spreads(seen: Mapping[str, Sequence[Round]]) -> BarChart:
    figures = {
        moment: {way: _median(getattr(each, name) for each in taken) for way, taken in seen.items()}
        for name, moment in (("spread_before", f"{REPLICAS} replicas"), ("spread_after", "with a new one"))
    }
    most = max(figure.high for of in figures.values() for figure in of.values())
    groups = [
        BarGroup(
            moment,
            [
                Bar(way, "run-2" if way in _CONNECTIONS else "run-1", each.estimate, each.low, each.high)
                for way, each in of.items()
            ],
        )
        for moment, of in figures.items()
    ]
    return BarChart(
        "How unevenly requests are spread over replicas",
        linear("requests of the busiest replica, over the mean", most),
        groups,
        bounds=[Bound("even", 1.0)],
        name="spread",
        note=f"Orange: connections are balanced; blue: requests. n = {len(seen[L4_KEPT])} rounds, 95 % intervals.",
    )


def _extreme(
    seen: Mapping[str, Sequence[Round]],
    ways: Sequence[str],
    figure: Callable[[Round], float],
    choose: Callable[..., str],
) -> tuple[str, Interval]:
    """The way whose median is the greatest, or the least, and that."""
    medians = {way: _median(map(figure, seen[way])) for way in ways}
    way = choose(medians, key=lambda each: medians[each].estimate)
    return way, medians[way]


def _median(values: Iterable[float]) -> Interval:
    return compare.median(list(values), seed=0)
