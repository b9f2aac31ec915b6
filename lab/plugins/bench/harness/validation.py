"""Validates the capacity simulation: latencies are predicted from low load, then measured under load.

The models' slots are the bottleneck here, not this machine's cores: two replicas serve two requests at a time each, and
further requests queue there. The overhead of a topology and the time that a request holds a slot are measured first,
without queues. All latencies under load are predicted from these, and written to a file before the loaded trials begin.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from lab.history import Record, write_parquet
from lab.load.arrivals import NS, ArrivalPlan, Constant, Poisson
from lab.measure.compare import interleave, quantile_ratio
from lab.measure.pace import Pace, pace_of
from lab.plugins.bench.harness.driver_client import Driver, OpenLoopTrial, start_driver
from lab.plugins.bench.harness.environment import Environment, open_small_environment
from lab.plugins.bench.harness.interleaved import REPEATS, repeated_if_late
from lab.plugins.bench.harness.result import Claim, ResultTable
from lab.plugins.bench.harness.stubs import behaving
from lab.plugins.bench.harness.trials import Trials
from lab.plugins.bench.harness.variant import CALLER, CLUSTER, REPLICAS, ROUTES, Variant
from lab.plugins.capacity.prediction import Alone, predict
from lab.plugins.capacity.queues import Cluster, Floats
from lab.runs import folder as run_folder
from models.proto.control.v1 import stub_pb2

_Key: TypeAlias = tuple[str, float]
"""Topology and utilisation."""

TOPOLOGIES = ("gateway", "mesh")
UTILISATIONS = (0.3, 0.6, 0.8)
BOUNDS = {0.5: 0.15, 0.99: 0.25}
"""Quantile → largest relative error of its prediction."""

SLOTS = 2
MEDIAN_MS, SIGMA = 20.0, 0.4
PAYLOAD_BYTES = 400
_LOW_RPS = 20.0
"""Evenly spaced: a replica with its two slots gets a request every 100 ms, so none waits."""
_QUEUE = 10_000
_LEAST_ROUNDS = 3

_SPEC = f"""
topologies = {json.dumps(TOPOLOGIES)}
[callers.{CALLER}]
[gateway]
replicas = 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long each topology is measured, all rounds together, seconds.

    Idle: models answer at once. Alone: they take their service time, without queues. Loaded: at each utilisation.
    """

    idle_s: float = 4.0
    alone_s: float = 20.0
    loaded_s: float = 16.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One topology at one utilisation, with predicted and measured latencies of each round, ms.

    Rounds in which the driver was late in every attempt are left out.
    """

    topology: str
    utilisation: float
    rps: float
    predicted: Sequence[Floats]
    measured: Sequence[Floats]
    pace: Pace
    left_out: int = 0

    def claims(self) -> Iterator[Claim]:
        """Claims that predicted / measured is within :data:`BOUNDS`."""
        for share, bound in BOUNDS.items():
            yield Claim(
                f"p{100 * share:g} predicted / measured, {self}",
                quantile_ratio(*self._listed(), share),
                at_least=1 - bound,
                at_most=1 + bound,
                doubts=(f"{self}: {self.pace.doubt}",) if self.pace.doubt else (),
            )

    def quantile_ms(self, share: float) -> tuple[float, float]:
        """Returns a quantile of the predicted and of the measured latencies."""
        predicted, measured = (np.concatenate(each) for each in (self.predicted, self.measured))
        return _rank(predicted, share), _rank(measured, share)

    def _listed(self) -> tuple[list[list[float]], list[list[float]]]:
        """As many predicted latencies as measured ones, evenly thinned, so that resampling takes no longer."""
        predicted = [
            np.sort(each)[len(each) // len(measured) // 2 :: len(each) // len(measured)].tolist()
            for each, measured in zip(self.predicted, self.measured, strict=True)
        ]
        return predicted, [each.tolist() for each in self.measured]

    def __str__(self) -> str:
        return f"{self.topology}, {100 * self.utilisation:g} %"


@dataclass(frozen=True, slots=True)
class Validation:
    """The result; its folder holds predictions and history. ``missing`` says which trials failed, and why."""

    alone: dict[str, Alone]
    points: Sequence[Point]
    folder: Path
    rounds: int
    missing: Sequence[str] = ()

    def claims(self) -> list[Claim]:
        """Returns the claims of all points."""
        return [claim for point in self.points for claim in point.claims()]

    def table(self) -> ResultTable:
        """Returns predicted and measured latencies, and the relative error."""
        rows: list[list[float | str]] = []
        for point in self.points:
            row: list[float | str] = [point.topology, f"{100 * point.utilisation:g} %", f"{point.rps:.1f}"]
            for share in BOUNDS:
                predicted, measured = point.quantile_ms(share)
                row += [predicted, measured, f"{100 * (predicted / measured - 1):+.1f} %".replace("-", "−")]
            rows.append(row)
        headings = [f"p{100 * share:g} {what}" for share in BOUNDS for what in ("predicted", "measured", "off")]
        columns = ("topology", "slots busy", "rps", *headings)
        return ResultTable("latency predicted and measured, ms", columns, rows, numbers=columns[1:])

    def notes(self) -> list[str]:
        """Returns what a reader must know to doubt it."""
        before = "; ".join(
            f"{name}: {len(each.latency_s)} requests, slot held for {1e3 * each.service_s.mean():.2f} ms on average, "
            f"overhead of the path {1e3 * each.overhead_s:.2f} ms"
            for name, each in self.alone.items()
        )
        left_out, of_all = sum(point.left_out for point in self.points), len(self.points) * self.rounds
        return [
            f"n = {self.rounds} rounds of Poisson arrivals at {REPLICAS} replicas × {SLOTS} slots, interleaved",
            "the simulation uses the arrivals that were sent, and draws service times from those at low load",
            f"measured without queues beforehand: {before}",
            f"left out, as the driver was late in each of {1 + REPEATS} attempts: {left_out} trials of {of_all}",
            f"predictions were written before the loaded trials: {self.folder / _PREDICTIONS}; history beside it",
        ]


_PREDICTIONS = "predictions.json"


def validate(say: Callable[[str], None], rounds: int, effort: Effort | None = None) -> Validation:
    """Brings a small lab up, measures, predicts, and measures again. A trial that fails leaves a gap.

    Raises:
        UnitError: no trial succeeded, of one of the three parts.
    """
    with open_small_environment(say, _SPEC, ROUTES) as environment:
        folder = run_folder.new_run_folder(environment.lab.runs)
        run_folder.create(folder)
        with start_driver(environment, folder) as driver:
            return _Run(environment, driver, folder, rounds, effort or Effort()).validation()


class _Run:
    def __init__(self, environment: Environment, driver: Driver, folder: Path, rounds: int, effort: Effort) -> None:
        self._environment, self._driver, self._folder = environment, driver, folder
        self._rounds, self._effort = rounds, effort
        self._endpoints = environment.state.plan.clients[CALLER]
        self._records: list[Record] = []

    def validation(self) -> Validation:
        idle = self._without_queues("models that answer at once", self._effort.idle_s)
        with _service_times(self._environment):
            serving = self._without_queues("models with service times, no queues", self._effort.alone_s)
            alone = {name: Alone(serving[name], float(np.median(idle[name]))) for name in serving if name in idle}
            plans = {(name, busy): self._arrivals(alone[name], busy) for name in alone for busy in UTILISATIONS}
            predicted = {key: self._predict(alone[key[0]], of_rounds) for key, of_rounds in plans.items()}
            self._write_down(predicted)
            trials = self._measured(plans, "under load", seed=2)
        write_parquet(self._records, self._folder / run_folder.HISTORY)
        points = [_point(*key, plans[key][0].rate, predicted[key], trials[key]) for key in plans if trials[key]]
        return Validation(alone, points, self._folder, self._rounds, self._environment.missing)

    def _without_queues(self, what: str, seconds: float) -> dict[str, Floats]:
        """Latencies by topology, seconds."""
        arrivals = [Constant(_LOW_RPS, seconds / self._rounds)] * self._rounds
        trials = self._measured({(name, 0.0): arrivals for name in TOPOLOGIES}, what, seed=1)
        return {
            name: np.concatenate([_latencies_s(trial) for trial in of_name.values()])
            for (name, _), of_name in trials.items()
            if of_name
        }

    def _arrivals(self, alone: Alone, utilisation: float) -> list[Poisson]:
        rate = alone.rate(utilisation, REPLICAS * SLOTS)
        seconds = self._effort.loaded_s / self._rounds
        return [Poisson(rate, seconds, seed=100 + number) for number in range(self._rounds)]

    def _predict(self, alone: Alone, plans: Sequence[Poisson]) -> list[Floats]:
        rounds = [np.array([each.offset_ns for each in plan.arrivals()]) / NS for plan in plans]
        return predict(alone, rounds, Cluster(replicas=REPLICAS, slots=SLOTS), seed=0)

    def _write_down(self, predicted: Mapping[_Key, Sequence[Floats]]) -> None:
        document = [
            {
                "topology": name,
                "utilisation": busy,
                **{f"p{100 * share:g}_ms": _rank(np.concatenate(values), share) for share in BOUNDS},
            }
            for (name, busy), values in predicted.items()
        ]
        (self._folder / _PREDICTIONS).write_text(json.dumps(document, indent=1))

    def _measured(
        self, plans: Mapping[_Key, Sequence[ArrivalPlan]], what: str, *, seed: int
    ) -> Mapping[_Key, Mapping[int, OpenLoopTrial]]:
        """The trials that succeeded, by key and round, counted from 0."""
        found: dict[_Key, dict[int, OpenLoopTrial]] = {key: {} for key in plans}
        self._environment.say(what)
        trials = Trials(self._environment, interleave(plans, self._rounds, seed=seed))
        for each in trials:
            name, number = each.cell[0], each.number - 1
            arrivals = plans[each.cell][number]
            with each:
                run = partial(self._driver.run_open_loop, Variant(name, name, self._endpoints), arrivals)
                trial = repeated_if_late(partial(run, f"{name}, {arrivals}", PAYLOAD_BYTES, seed=number))
                each.keep(p50_ms=trial.p50_ms)
                found[each.cell][number] = trial
                self._records += trial.records
        trials.require_one()
        return found


def _point(
    name: str, busy: float, rps: float, predicted: Sequence[Floats], trials: Mapping[int, OpenLoopTrial]
) -> Point:
    """Uses the rounds in which the driver was on time, or all if these are too few."""
    kept = [number for number, trial in trials.items() if not trial.pace.late]
    if len(kept) < min(_LEAST_ROUNDS, len(trials)):
        kept = list(trials)
    return Point(
        topology=name,
        utilisation=busy,
        rps=rps,
        predicted=[predicted[number] for number in kept],
        measured=[1e3 * _latencies_s(trials[number]) for number in kept],
        pace=pace_of([trials[number].pace for number in kept]),
        left_out=len(trials) - len(kept),
    )


@contextmanager
def _service_times(environment: Environment) -> Iterator[None]:
    """Models with service times and queues. Each replica has its own seed: equal draws would make them one."""
    with ExitStack() as stack:
        for number, address in enumerate(environment.replicas(CLUSTER), start=1):
            behaviour = stub_pb2.Behaviour(
                lognormal=stub_pb2.LognormalLatency(median_ms=MEDIAN_MS, sigma=SIGMA),
                concurrency_limit=SLOTS,
                queue_limit=_QUEUE,
                seed=number,
            )
            stack.enter_context(behaving([address], behaviour))
        yield


def _latencies_s(trial: OpenLoopTrial) -> Floats:
    """Latencies from when each request was due; of a repeated trial, those of the last attempt."""
    last = trial.records[-len(trial.records) // (1 + trial.pace.repeated) :]
    return np.array([record.done_ns - record.intended_ns for record in last]) / NS


def _rank(values: Floats, share: float) -> float:
    """Counts as :func:`~lab.measure.compare.quantile_ratio` does."""
    return float(np.quantile(values, share, method="higher"))
