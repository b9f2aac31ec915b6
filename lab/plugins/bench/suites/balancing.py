"""Balancing of connections against balancing of requests: how even it is, and how soon a new replica is used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

import uvloop

from lab.measure import compare
from lab.plugins.bench.harness.bench import TOPOLOGIES_OPTION, Bench
from lab.plugins.bench.harness.charts import chart_of_bars
from lab.plugins.bench.harness.environment import open_small_environment
from lab.plugins.bench.harness.result import BenchResult, Claim, ResultTable
from lab.plugins.bench.harness.scale_out import (
    AFTER_S,
    BEFORE_S,
    INTERVALS_MS,
    SETTLED_S,
    ScalableCluster,
    measure,
    share_between,
)
from lab.plugins.bench.harness.variant import CALLER, CLUSTER, REPLICAS, ROUTES, extreme_path, one_of_each_path
from lab.plugins.bench.harness.vip import L4, L7, ReplicasFile, start_vip
from lab.report.bars import BarChart, Bound
from lab.report.chart import Chart, Line
from lab.report.scales import linear
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from lab.plugins.bench.harness.environment import Environment
    from lab.plugins.bench.harness.scale_out import Round

MAX_AGE_S = 0.8
"""Age at which a connection ends where its age is limited."""

SPREAD_BOUND, UNEVEN_BOUND, SHARE_BOUND, RENEWED_BOUND = 1.15, 1.1, 0.85, 0.5

L4_KEPT, L4_CUT, L4_AGED = "L4", "L4, VIP cuts connections", "L4, models end connections"
L7_VIP = "L7"
_FIGURES = {"spread_before": "busiest before", "spread_after": "busiest after", "share": "new replica"}

_CONNECTIONS = (L4_KEPT, L4_CUT, L4_AGED)
_STYLES = {L4_KEPT: "run-2", L4_CUT: "run-5", L4_AGED: "run-4", L7_VIP: "run-1"}
_STEP_S = 0.2

# The same cluster with models that end old connections; all models of a lab have the same settings.
_SPEC = f"""
topologies = ["direct"]
[callers.{CALLER}]
[stub]
max_connection_age_s = {MAX_AGE_S}
"""


def run(outer: Environment, rounds: int, *, topologies: Sequence[str] = ()) -> BenchResult:
    """Sends by all paths at once. In each round a replica is added, and removed afterwards.

    Of topologies that share a balancer one is measured. Two streams at fixed times would each get every other turn of
    its round robin, and look uneven while both together are even.
    """
    with open_small_environment(outer.say, _SPEC, ROUTES) as inner:
        clusters = [
            _cluster(outer, {L4_KEPT: (L4, 0), L4_CUT: (L4, MAX_AGE_S), L7_VIP: (L7, 0)}),
            _cluster(inner, {L4_AGED: (L4, 0)}),
        ]
        measured = one_of_each_path(topologies or outer.topologies)
        return result(uvloop.run(measure(clusters, measured, rounds)))


def _cluster(environment: Environment, vips: Mapping[str, tuple[str, float]]) -> ScalableCluster:
    replicas = ReplicasFile(environment.lab.folder / "vip-replicas.json")
    replicas.write(environment.replicas(CLUSTER))
    addresses = {
        path: start_vip(environment, f"vip-{number}", template, replicas, max_age_s=max_age_s)
        for number, (path, (template, max_age_s)) in enumerate(vips.items(), start=1)
    }
    return ScalableCluster(environment, replicas, addresses)


def result(seen: Mapping[str, Sequence[Round]]) -> BenchResult:
    """Returns the result of the rounds of each path."""
    seen = {path: seen[path] for path in sorted(seen, key=_place)}
    requests_balanced = [path for path in seen if path not in _CONNECTIONS]
    followers = [path for path in requests_balanced if not _is_hard_coded(path)]
    uneven, spread = extreme_path(seen, requests_balanced, lambda each: each.spread_before)
    late, share = extreme_path(seen, followers, lambda each: each.share, choose=min)
    rounds = len(seen[L4_KEPT])
    return BenchResult(
        unit="multiples of an even share",
        samples={
            f"{path}, {what}": [getattr(each, name) for each in measured]
            for path, measured in seen.items()
            for name, what in _FIGURES.items()
        },
        claims=[
            Claim(
                f"busiest replica / mean, requests balanced, most uneven path ({uneven})", spread, at_most=SPREAD_BOUND
            ),
            Claim(
                f"busiest replica / mean, {L4_KEPT} / {L7_VIP}",
                compare.median(
                    one.spread_before / other.spread_before
                    for one, other in zip(seen[L4_KEPT], seen[L7_VIP], strict=True)
                ),
                at_least=UNEVEN_BOUND,
            ),
            Claim(
                f"new replica's requests / an even share, {L4_KEPT}: none as long as connections last",
                compare.median(each.share for each in seen[L4_KEPT]),
                at_most=0,
            ),
            Claim(
                f"new replica's requests / an even share, requests balanced, slowest path ({late})",
                share,
                at_least=SHARE_BOUND,
            ),
            *(
                Claim(
                    f"new replica's requests / an even share, {path} after {MAX_AGE_S:g} s",
                    compare.median(each.share for each in seen[path]),
                    at_least=RENEWED_BOUND,
                )
                for path in (L4_CUT, L4_AGED)
            ),
            Claim(
                f"share of requests failed, worst round, {L4_AGED}",
                compare.exactly(max(each.failed for each in seen[L4_AGED]), rounds=rounds),
                at_most=0,
            ),
        ],
        tables=[_table(seen)],
        charts=[_shares_over_time(seen), _spreads(seen)],
        notes=[
            f"n = {rounds} rounds; {REPLICAS} replicas, then one more; all paths at once",
            f"{len(INTERVALS_MS)} callers; the first sends every {INTERVALS_MS[0]} ms, the k-th 1/k as often",
            "each has one connection to each VIP, opened in every round in a random order",
            f"shares are of requests sent {SETTLED_S:g} s to {AFTER_S:g} s after the replica could answer",
            "direct has hard-coded addresses; other topologies learn replicas from the control plane, VIPs from a file",
        ],
    )


def _is_hard_coded(path: str) -> bool:
    return path in TOPOLOGIES and not TOPOLOGIES[path].capabilities.follows_rules


def _place(path: str) -> int:
    """VIPs first, then topologies in their order."""
    return list(_STYLES).index(path) if path in _STYLES else len(_STYLES)


def _table(seen: Mapping[str, Sequence[Round]]) -> ResultTable:
    rows = []
    for path, measured in seen.items():
        share = compare.median(each.share for each in measured)
        first = compare.median(each.first_s for each in measured).estimate
        rows.append(
            (
                path,
                *(median(getattr(each, name) for each in measured) for name in _FIGURES),
                f"{share.low:.3f} to {share.high:.3f}",
                f"{max(first, 0):.3f} s" if math.isfinite(first) else "never",
                f"{100 * sum(each.failed for each in measured) / len(measured):.2f} %",
            )
        )
    columns = ("path", *_FIGURES.values(), "95 % interval", "its first request after", "failed")
    title = "median over rounds: requests of the busiest replica / mean, and of the new replica / an even share"
    return ResultTable(title, columns, rows, numbers=columns[1:])


def _shares_over_time(seen: Mapping[str, Sequence[Round]]) -> Chart:
    steps = [step * _STEP_S for step in range(math.ceil(-BEFORE_S / 2 / _STEP_S), round(AFTER_S / _STEP_S))]
    lines = [
        Line(path, style, [(at + _STEP_S / 2, 100 * share_between(seen[path], at, at + _STEP_S)) for at in steps])
        for path, style in _STYLES.items()
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
    return chart_of_bars(
        "How unevenly requests are spread over replicas",
        "requests of the busiest replica, over the mean",
        {
            moment: {path: compare.median(getattr(each, name) for each in measured) for path, measured in seen.items()}
            for name, moment in (("spread_before", f"{REPLICAS} replicas"), ("spread_after", "with a new one"))
        },
        styles={path: "run-2" if path in _CONNECTIONS else "run-1" for path in seen},
        bounds=[Bound("even", 1.0)],
        name="spread",
        note=f"Orange: connections are balanced; blue: requests. n = {len(seen[L4_KEPT])} rounds, 95 % intervals.",
    )


BENCH = Bench(
    name="balancing",
    question="How evenly does each path spread requests, and how soon does a new replica get its share?",
    run=run,
    options=(TOPOLOGIES_OPTION,),
)
