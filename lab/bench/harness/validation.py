"""Whether the simulation tells what the lab does: latencies foretold at low load, then measured under load.

The models' slots are what is scarce here, not this machine's cores: two replicas serve two requests at a time each, and
the others wait there. What a topology adds, and how long a slot is taken, is measured first, with no queue anywhere;
the latencies of all that is to come are predicted from that, and written down before the first loaded turn begins.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from lab.bench.harness.driver_client import driver
from lab.bench.harness.environment import setting
from lab.bench.harness.interleaved import REPEATS, punctual
from lab.bench.harness.result import Claim, ResultTable
from lab.bench.harness.stubs import behaving
from lab.bench.harness.variant import API, CALLER, CLUSTER, MODEL, USE_CASE, VERSION, Arm
from lab.capacity.prediction import Alone, predict
from lab.capacity.queues import Cluster
from lab.history import write_parquet
from lab.load.arrivals import NS, Constant, Poisson
from lab.measure.compare import interleave, quantile_ratio
from lab.measure.pace import pace_of
from lab.runs import folder as run_folder
from models.proto.control.v1 import stub_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lab.bench.harness.driver_client import Driver, Turn
    from lab.bench.harness.environment import Setting
    from lab.capacity.queues import Floats
    from lab.history import Record
    from lab.load.arrivals import ArrivalPlan
    from lab.measure.pace import Pace

_Key: TypeAlias = tuple[str, float]
"""Topology and utilisation."""

TOPOLOGIES = ("gateway", "mesh")
UTILISATIONS = (0.3, 0.6, 0.8)
BOUNDS = {0.5: 0.15, 0.99: 0.25}
"""Quantile → how far a prediction of it may be off."""

REPLICAS, SLOTS = 2, 2
MEDIAN_MS, SIGMA = 20.0, 0.4
PAYLOAD_BYTES = 400
_LOW_RPS = 20.0
"""Evenly spaced, so a replica gets one in 100 ms, and has two slots: nobody waits."""
_QUEUE = 10_000
_LEAST_ROUNDS = 3

_SPEC = f"""
topologies = {json.dumps(TOPOLOGIES)}
routes = "routes.yaml"
[callers.{CALLER}]
[gateway]
replicas = 1
"""
_ROUTES = f"""
use_cases:
  {USE_CASE}: {{callers: [{CALLER}], api: {API}, timeout: 10s, default: {MODEL}@{VERSION}}}
models:
  {MODEL}: {{versions: {{{VERSION}: {{cluster: {CLUSTER}}}}}}}
clusters:
  {CLUSTER}: {{replicas: {REPLICAS}}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long is measured of each topology, all rounds together, seconds.

    Attributes:
        idle_s: with models that take no time.
        alone_s: with models that take theirs, without queues.
        loaded_s: at each utilisation.
    """

    idle_s: float = 4.0
    alone_s: float = 20.0
    loaded_s: float = 16.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One topology at one utilisation; a list has an item a round, of latencies in ms.

    Attributes:
        left_out: rounds that are not in them, because the driver was late in each attempt at them.
    """

    topology: str
    utilisation: float
    rps: float
    predicted: Sequence[Floats]
    measured: Sequence[Floats]
    pace: Pace
    left_out: int = 0

    def claims(self) -> Iterator[Claim]:
        """Predicted over measured, within :data:`BOUNDS`."""
        for share, bound in BOUNDS.items():
            yield Claim(
                text=f"p{100 * share:g} predicted / measured, {self}",
                figure=quantile_ratio(*self._listed(), share, seed=0),
                at_least=1 - bound,
                at_most=1 + bound,
                doubts=(f"{self}: {self.pace.doubt}",) if self.pace.doubt else (),
            )

    def quantile_ms(self, share: float) -> tuple[float, float]:
        """Predicted and measured."""
        predicted, measured = (np.concatenate(each) for each in (self.predicted, self.measured))
        return _rank(predicted, share), _rank(measured, share)

    def _listed(self) -> tuple[list[list[float]], list[list[float]]]:
        """Of the predicted ones as many as were measured, spread evenly, for the sake of who resamples them."""
        predicted = [
            np.sort(each)[len(each) // len(measured) // 2 :: len(each) // len(measured)].tolist()
            for each, measured in zip(self.predicted, self.measured, strict=True)
        ]
        return predicted, [each.tolist() for each in self.measured]

    def __str__(self) -> str:
        return f"{self.topology}, {100 * self.utilisation:g} %"


@dataclass(frozen=True, slots=True)
class Validation:
    """What came of it.

    Attributes:
        alone: by topology.
        points: by topology and utilisation.
        folder: where predictions and history are.
        rounds: how many.
    """

    alone: dict[str, Alone]
    points: Sequence[Point]
    folder: Path
    rounds: int

    def claims(self) -> list[Claim]:
        """Of all points."""
        return [claim for point in self.points for claim in point.claims()]

    def table(self) -> ResultTable:
        """Predicted beside measured, and by how much it is off."""
        rows: list[list[float | str]] = []
        for point in self.points:
            row: list[float | str] = [point.topology, f"{100 * point.utilisation:g} %", f"{point.rps:.1f}"]
            for share in BOUNDS:
                predicted, measured = point.quantile_ms(share)
                row += [predicted, measured, f"{100 * (predicted / measured - 1):+.1f} %".replace("-", "−")]
            rows.append(row)
        headings = [f"p{100 * share:g} {what}" for share in BOUNDS for what in ("predicted", "measured", "off")]
        columns = ("topology", "slots busy", "rps", *headings)
        return ResultTable(title="latency foretold and measured, ms", columns=columns, rows=rows, numbers=columns[1:])

    def notes(self) -> list[str]:
        """What a reader must know to doubt it."""
        before = "; ".join(
            f"{name}: {len(each.latency_s)} requests, slot taken for {1e3 * each.service_s.mean():.2f} ms in the mean, "
            f"the way {1e3 * each.overhead_s:.2f} ms"
            for name, each in self.alone.items()
        )
        left_out, of_all = sum(point.left_out for point in self.points), len(self.points) * self.rounds
        return [
            f"n = {self.rounds} rounds of Poisson arrivals at {REPLICAS} replicas × {SLOTS} slots, taken in turn",
            "the simulation has the arrivals that were sent, and draws service times from those at low load",
            f"measured alone beforehand: {before}",
            f"left out, as the driver was late in each of {1 + REPEATS} attempts: {left_out} turns of {of_all}",
            f"predictions were written before the loaded turns: {self.folder / _PREDICTIONS}; history beside it",
        ]


_PREDICTIONS = "predictions.json"


def validate(say: Callable[[str], None], rounds: int, effort: Effort | None = None) -> Validation:
    """Brings a small lab up, measures, predicts, and measures again.

    Raises:
        UnitError: an answer was wrong or missing.
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "routes.yaml").write_text(_ROUTES)
        (Path(folder) / "lab.toml").write_text(_SPEC)
        with setting(say, Path(folder) / "lab.toml") as lab:
            runs = run_folder.folder_of_now(lab.lab.runs)
            run_folder.make(runs)
            with driver(lab, runs) as turns:
                return _Run(lab, turns, runs, rounds, effort or Effort()).validation()


class _Run:
    """One validation under way."""

    def __init__(self, lab: Setting, turns: Driver, folder: Path, rounds: int, effort: Effort) -> None:
        self._lab, self._turns, self._folder, self._rounds, self._effort = lab, turns, folder, rounds, effort
        endpoints = lab.state.plan.clients[CALLER]
        self._arms = {each: Arm(each, each, endpoints) for each in TOPOLOGIES}
        self._records: list[Record] = []

    def validation(self) -> Validation:
        idle = self._without_queues("models that take no time", self._effort.idle_s)
        with _taking_time(self._lab):
            taken = self._without_queues("models that take theirs, no queues", self._effort.alone_s)
            alone = {name: Alone(taken[name], float(np.median(idle[name]))) for name in taken}
            plans = {(name, busy): self._arrivals(alone[name], busy) for name in alone for busy in UTILISATIONS}
            predicted = {key: self._predict(alone[key[0]], of_rounds) for key, of_rounds in plans.items()}
            self._write_down(predicted)
            turns = self._loaded(plans)
        write_parquet(self._records, self._folder / run_folder.HISTORY)
        points = [_point(*key, plans[key][0].rate, predicted[key], turns[key]) for key in plans]
        return Validation(alone, points, self._folder, self._rounds)

    def _without_queues(self, what: str, seconds: float) -> dict[str, Floats]:
        """Latencies by topology, seconds."""
        self._lab.say(f"{what}: {2 * seconds:g} s")
        arrivals = Constant(_LOW_RPS, seconds / self._rounds)
        found: dict[str, list[Floats]] = {}
        for number, order in enumerate(interleave(list(self._arms), self._rounds, seed=1)):
            for name in order:
                found.setdefault(name, []).append(_latencies_s(self._turn(name, arrivals, seed=number)))
        return {name: np.concatenate(values) for name, values in found.items()}

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

    def _loaded(self, plans: Mapping[_Key, Sequence[Poisson]]) -> Mapping[_Key, Sequence[Turn]]:
        turns: dict[_Key, list[Turn]] = {key: [] for key in plans}
        for number, order in enumerate(interleave(list(plans), self._rounds, seed=2)):
            self._lab.say(f"round {number + 1} of {self._rounds} under load: {len(plans)} turns")
            for name, busy in order:
                turns[name, busy].append(self._turn(name, plans[name, busy][number], seed=number))
        return turns

    def _turn(self, name: str, arrivals: ArrivalPlan, *, seed: int) -> Turn:
        where = f"{name}, {arrivals}"
        arrive = partial(self._turns.arrive, self._arms[name], arrivals, where, payload_bytes=PAYLOAD_BYTES, seed=seed)
        turn = punctual(arrive)
        self._records += turn.records
        return turn


def _point(name: str, busy: float, rps: float, predicted: Sequence[Floats], turns: Sequence[Turn]) -> Point:
    """Of the rounds in which the driver was in time, or else the machine had other things to do; of all, if too few."""
    kept = [number for number, turn in enumerate(turns) if not turn.pace.late]
    if len(kept) < min(_LEAST_ROUNDS, len(turns)):
        kept = list(range(len(turns)))
    return Point(
        topology=name,
        utilisation=busy,
        rps=rps,
        predicted=[predicted[number] for number in kept],
        measured=[1e3 * _latencies_s(turns[number]) for number in kept],
        pace=pace_of([turns[number].pace for number in kept]),
        left_out=len(turns) - len(kept),
    )


@contextmanager
def _taking_time(lab: Setting) -> Iterator[None]:
    """Models that take their time and let requests wait; replicas that all drew the same would be one."""
    with ExitStack() as stack:
        for number, address in enumerate(lab.replicas(CLUSTER), start=1):
            behaviour = stub_pb2.Behaviour(
                lognormal=stub_pb2.LognormalLatency(median_ms=MEDIAN_MS, sigma=SIGMA),
                concurrency_limit=SLOTS,
                queue_limit=_QUEUE,
                seed=number,
            )
            stack.enter_context(behaving([address], behaviour))
        yield


def _latencies_s(turn: Turn) -> Floats:
    """From when each was due; of a turn that was made again, the last."""
    last = turn.records[-len(turn.records) // (1 + turn.pace.repeated) :]
    return np.array([record.done_ns - record.intended_ns for record in last]) / NS


def _rank(values: Floats, share: float) -> float:
    """As :func:`~lab.measure.compare.quantile_ratio` counts."""
    return float(np.quantile(values, share, method="higher"))
