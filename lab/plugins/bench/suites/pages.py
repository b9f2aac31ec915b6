"""How long pages take by fan-out and depth, whether single calls predict it, and what retries and hedges cost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lab.measure.compare import Interval, interleave, median, quantile_ratio, typical
from lab.measure.control import control, rounds_to_tell
from lab.measure.findings import in_its_interval
from lab.plugins.bench.harness.bench import TOPOLOGIES_OPTION, Bench
from lab.plugins.bench.harness.charts import chart_of_lines
from lab.plugins.bench.harness.environment import Environment, open_small_environment
from lab.plugins.bench.harness.page_client import Asked, PageClient
from lab.plugins.bench.harness.result import BenchResult, Claim, ResultTable
from lab.plugins.bench.harness.trials import Trials
from lab.plugins.bench.harness.variant import MODEL, VERSION
from lab.plugins.capacity.pages import Singles, predict_pages
from lab.report.palette import topology_style
from lab.report.scales import linear
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from lab.report.chart import Chart
    from lab.roles import Plan

PATHS = ("direct", "gateway", "gateway-header", "mesh", "proxyless")
FAN_OUTS = (1, 4, 12, 24)
DEPTHS = (1, 2, 3)
"""Services in a row, of which the last makes :data:`AT_DEPTH` calls."""

AT_DEPTH = 12
CALLS_PER_S, SECONDS = 240.0, 3.0
LATENCY = "lognormal:5,0.6"
"""Of a model, ms: its median, and the sigma of its logarithm."""

PERCENT = 10
"""Retries for each hundred calls."""

P50_OFF, P99_OFF = 0.15, 0.25
"""The prediction is good up to this difference."""

USE_CASE, HEDGED, FLAKY = "UpNext", "UpNextHedged", "UpNextFlaky"
HEDGE_AFTER_MS, ATTEMPTS, ERROR_RATE = 15, 3, 0.5
_ERRING, _FLAKY_MODEL, _HEDGED_MODEL = "ml-cluster-6", "flaky", "hedged"


class _Cell(NamedTuple):
    """What one trial measures: pages of a shape, or single calls in their place."""

    topology: str
    kind: str
    calls: int
    depth: int = 1

    def __str__(self) -> str:
        deep = f", {self.depth} deep" if self.depth > 1 else ""
        return f"{self.topology}, {self.kind} of {self.calls}{deep}"

    @property
    def rate(self) -> float:
        """Pages, or bursts, per second."""
        return CALLS_PER_S / self.calls

    @property
    def caller(self) -> str:
        """The caller that is asked."""
        if self.kind in (_HEDGED, _WITH_BUDGET, _WITHOUT):
            return "hedged" if self.kind == _HEDGED else "retried"
        return f"deep-{self.depth}" if self.depth > 1 else f"fan-{self.calls}"


_PAGE, _AGAIN, _SINGLE, _WAY = "pages", "pages again", "single calls", "ways"
_HEDGED, _WITH_BUDGET, _WITHOUT = "hedged pages", "retried pages", "retried pages without a budget"


@dataclass(slots=True)
class _Measured:
    """Each trial by its cell, a value a round."""

    asked: dict[_Cell, list[Asked]] = field(default_factory=dict)

    def has(self, cell: _Cell) -> bool:
        """Whether there are pages of this cell, and what predicts them."""
        return {cell, cell._replace(kind=_SINGLE, depth=1), _Cell(cell.topology, _WAY, AT_DEPTH)} <= self.asked.keys()

    def took_ms(self, cell: _Cell) -> list[list[float]]:
        """Latencies of a cell in each round."""
        return [each.took_ms for each in self.asked[cell]]

    def predicted_ms(self, cell: _Cell) -> list[list[float]]:
        """Latencies of a cell's pages, predicted from single calls, in each round."""
        bursts = self.asked[_Cell(cell.topology, _SINGLE, cell.calls)]
        ways = self.asked[_Cell(cell.topology, _WAY, AT_DEPTH)]
        predicted = []
        for number, (burst, way) in enumerate(zip(bursts, ways, strict=False)):
            singles = Singles(np.reshape(burst.took_ms, (-1, cell.calls)), np.asarray(way.took_ms))
            predicted.append(predict_pages(singles, hops=cell.depth, seed=number).tolist())
        return predicted

    def ratio(self, cell: _Cell, share: float) -> Interval:
        """The predicted quantile over the measured one."""
        predicted, measured = self.predicted_ms(cell), self.took_ms(cell)
        rounds = min(len(predicted), len(measured))  # a trial may have failed
        return quantile_ratio(predicted[:rounds], measured[:rounds], share)


def run(environment: Environment, rounds: int, *, topologies: Sequence[str] = ()) -> BenchResult:
    """Measures pages of each shape on each topology, and single calls at the same rate and in the same bursts.

    By default on :data:`PATHS`.
    """
    topologies = topologies or PATHS
    spec = f'topologies = {json.dumps([*topologies])}\n{_callers()}[stub]\nlatency = "{LATENCY}"\n'
    with open_small_environment(environment.say, spec, _routes()) as lab:
        inner = lab.within(environment)
        with inner.lab.faults.injected("error", _ERRING, rate=ERROR_RATE):
            trials, found = _measure(inner, [*_cells(topologies)], rounds)
    shapes = [(calls, 1) for calls in FAN_OUTS] + [(AT_DEPTH, depth) for depth in DEPTHS if depth > 1]
    twice = _Cell(topologies[0], _PAGE, AT_DEPTH)
    both = (trials.samples[each, "p50"] for each in (twice, twice._replace(kind=_AGAIN)))
    tables = _table(found, topologies, shapes), _retried(found, topologies, trials), _hedges(found, topologies, trials)
    return BenchResult(
        unit="ms (p50)",
        samples={f"{cell}": trials.samples[cell, "p50"] for cell in found.asked},
        claims=[*_claims(found, topologies, trials)],
        controls=[control(f"{_AGAIN} − {_PAGE} of {AT_DEPTH}, {topologies[0]}, p50, ms", *both)],
        tables=[table for table in tables if table.rows],
        charts=[_chart(topologies, trials)],
        notes=[
            f"n = {rounds} rounds × {SECONDS:g} s; Poisson arrivals, {CALLS_PER_S:g} calls per second in all",
            f"models take {LATENCY} ms; a page's calls run in parallel; times count from the sending of a page",
            "single calls come in bursts as large as a page, and as often; a hop takes a call's way to its caller",
            f"retries: half of all attempts fail, up to {ATTEMPTS} each; a budget of {PERCENT} for each hundred calls",
            f"hedges: a second attempt after {HEDGE_AFTER_MS} ms",
        ],
    )


def _cells(topologies: Sequence[str]) -> Iterator[_Cell]:
    for topology in topologies:
        can = TOPOLOGIES[topology].capabilities
        yield from (_Cell(topology, kind, calls) for calls in FAN_OUTS for kind in (_PAGE, _SINGLE))
        yield from (_Cell(topology, _PAGE, AT_DEPTH, depth) for depth in DEPTHS if depth > 1)
        yield _Cell(topology, _WAY, AT_DEPTH)
        if can.attempts_reported and can.retries:
            yield from (_Cell(topology, kind, AT_DEPTH) for kind in (_WITH_BUDGET, _WITHOUT))
        if can.attempts_reported and can.hedging:
            yield _Cell(topology, _HEDGED, AT_DEPTH)
    yield _Cell(topologies[0], _AGAIN, AT_DEPTH)


def _measure(environment: Environment, cells: Sequence[_Cell], rounds: int) -> tuple[Trials[_Cell], _Measured]:
    found, plan = _Measured(), environment.state.plan
    trials = Trials(environment, interleave(cells, rounds), warm_up=cells)
    with PageClient() as client:
        for trial in trials:
            cell, seconds = trial.cell, SECONDS if trial.number else min(SECONDS, 0.5)
            with trial:
                asked = _ask(client, cell, plan, _times_s(cell.rate, seconds, seed=trial.number))
                figures = {f"p{percent}": float(np.quantile(asked.took_ms, percent / 100)) for percent in (50, 99)}
                trial.keep(**figures, attempts=asked.attempts)
                if trial.number:
                    found.asked.setdefault(cell, []).append(asked)
    return trials, found


def _ask(client: PageClient, cell: _Cell, plan: Plan, times_s: Sequence[float]) -> Asked:
    if cell.kind == _SINGLE:
        return client.ask_calls(
            cell.caller, plan.clients[cell.caller], cell.topology, USE_CASE, times_s, burst=cell.calls
        )
    address = plan.unit(cell.caller).address
    if cell.kind == _WAY:
        return client.ask_ways(address, cell.topology, USE_CASE, times_s)
    ask = partial(client.ask_pages, address, cell.topology, times_s, calls=cell.calls)
    if cell.kind in (_WITH_BUDGET, _WITHOUT):
        return ask(percent=PERCENT if cell.kind == _WITH_BUDGET else None, model=_FLAKY_MODEL, fails=True)
    return ask(model=_HEDGED_MODEL if cell.kind == _HEDGED else MODEL)


def _times_s(rate: float, seconds: float, *, seed: int) -> list[float]:
    """Arrivals of a Poisson process, as many as there are on average, so that each round has the same number."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, max(2, round(rate * seconds)))
    return [float(each) for each in np.cumsum(gaps)]


def _callers() -> str:
    pages = {f"fan-{calls}": [[USE_CASE] * calls] for calls in dict.fromkeys((*FAN_OUTS, AT_DEPTH))}
    inner = f"fan-{AT_DEPTH}"
    for depth in DEPTHS[1:]:
        pages[f"deep-{depth}"], inner = [[inner]], f"deep-{depth}"
    pages |= {"hedged": [[HEDGED] * AT_DEPTH], "retried": [[FLAKY] * AT_DEPTH]}
    return "".join(f"[callers.{name}]\npage = {json.dumps(page)}\n" for name, page in pages.items())


def _routes() -> str:
    callers = json.dumps([f"fan-{calls}" for calls in dict.fromkeys((*FAN_OUTS, AT_DEPTH))])
    entry = "api: ranking.v1, timeout: 10s, default:"
    hedge = f"idempotent: true, hedge: {{after: {HEDGE_AFTER_MS}ms, budget: 20, at_least: 2}}"
    retries = f"retries: {{attempts: {ATTEMPTS}, on: [unavailable, internal], budget: 100, at_least: 100}}"
    return f"""
use_cases:
  {USE_CASE}: {{callers: {callers}, {entry} {MODEL}@{VERSION}}}
  {HEDGED}: {{callers: [hedged], {entry} {_HEDGED_MODEL}@{VERSION}, {hedge}}}
  {FLAKY}: {{callers: [retried], {entry} {_FLAKY_MODEL}@{VERSION}, {retries}}}
models:
  {MODEL}: {{versions: {{{VERSION}: {{cluster: ml-cluster-5}}}}}}
  {_HEDGED_MODEL}: {{versions: {{{VERSION}: {{cluster: ml-cluster-5}}}}}}
  {_FLAKY_MODEL}: {{versions: {{{VERSION}: {{cluster: {_ERRING}}}}}}}
clusters:
  ml-cluster-5: {{replicas: 2}}
  {_ERRING}: {{replicas: 2}}
"""


def _claims(found: _Measured, topologies: Sequence[str], trials: Trials[_Cell]) -> Iterator[Claim]:
    hardest = [(FAN_OUTS[-1], 1), (AT_DEPTH, DEPTHS[-1])]
    for cell in filter(found.has, (_Cell(topology, _PAGE, *shape) for topology in topologies for shape in hardest)):
        for share, off in ((0.5, P50_OFF), (0.99, P99_OFF)):
            yield Claim(
                f"{cell}: p{share * 100:.0f} predicted / measured",
                found.ratio(cell, share),
                at_least=1 - off,
                at_most=1 + off,
            )
    for cell in found.asked:
        if cell.kind == _WITH_BUDGET:
            yield Claim(
                f"{cell}: attempts for each call, with a budget of {PERCENT} %",
                median(trials.samples[cell, "attempts"]),
                at_most=1 + PERCENT / 100,
            )


def _quantile_ms(rounds: Sequence[Sequence[float]], share: float) -> float:
    return float(np.quantile(np.concatenate(rounds), share))


def _table(found: _Measured, topologies: Sequence[str], shapes: Sequence[tuple[int, int]]) -> ResultTable:
    rows: list[list[float | str]] = []
    for cell in filter(found.has, (_Cell(topology, _PAGE, *shape) for topology in topologies for shape in shapes)):
        values = (found.took_ms(cell), found.predicted_ms(cell))
        figures = [_quantile_ms(each, share) for share in (0.5, 0.99) for each in values]
        rows.append([cell.topology, str(cell.calls), str(cell.depth), *figures])
    numbers = ("p50, ms", "p50 predicted", "p99, ms", "p99 predicted")
    title = "pages by fan-out and depth, all rounds together"
    return ResultTable(title, ("topology", "calls", "services in a row", *numbers), rows, numbers=numbers)


def _retried(found: _Measured, topologies: Sequence[str], trials: Trials[_Cell]) -> ResultTable:
    rows: list[list[float | str]] = [
        [topology, *(typical(trials.samples[_Cell(topology, kind, AT_DEPTH), "attempts"]) for kind in kinds)]
        for kinds in [(_WITH_BUDGET, _WITHOUT)]
        for topology in topologies
        if _Cell(topology, _WITHOUT, AT_DEPTH) in found.asked
    ]
    numbers = (f"with a budget of {PERCENT} %", "without")
    return ResultTable("attempts for each call, half of which fail", ("topology", *numbers), rows, numbers=numbers)


def _hedges(found: _Measured, topologies: Sequence[str], trials: Trials[_Cell]) -> ResultTable:
    rows: list[list[float | str]] = []
    for topology in topologies:
        hedged, plain = _Cell(topology, _HEDGED, AT_DEPTH), _Cell(topology, _PAGE, AT_DEPTH)
        if {hedged, plain} <= found.asked.keys():
            rounds = min(len(found.asked[hedged]), len(found.asked[plain]))
            ratios = [
                in_its_interval(quantile_ratio(found.took_ms(hedged)[:rounds], found.took_ms(plain)[:rounds], share))
                for share in (0.5, 0.99)
            ]
            rows.append([topology, *ratios, typical(trials.samples[hedged, "attempts"])])
    columns = ("topology", "p50, hedged / not", "p99, hedged / not", "attempts for each call")
    return ResultTable("what hedging buys and costs", columns, rows, numbers=columns[-1:])


def _chart(topologies: Sequence[str], trials: Trials[_Cell]) -> Chart:
    def line(topology: str) -> list[tuple[float, Interval]]:
        return [(calls, median(trials.samples[_Cell(topology, _PAGE, calls), "p99"])) for calls in FAN_OUTS]

    return chart_of_lines(
        f"p99 of a page by its calls, at {CALLS_PER_S:g} calls per second in all",
        linear("inference calls of a page, in parallel", max(FAN_OUTS)),
        "p99, ms",
        {topology: line(topology) for topology in topologies},
        styles={topology: topology_style(topology) for topology in topologies},
        name="fan-out",
        note="Medians over rounds, with 95 % intervals.",
    )


BENCH = Bench(
    name="pages",
    question="How long does a page of many calls take, do single calls predict it, and what do retries cost?",
    run=run,
    rounds=rounds_to_tell(1),
    controls=1,
    options=(TOPOLOGIES_OPTION,),
)
