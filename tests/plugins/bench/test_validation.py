import json
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest

from lab.errors import InputError, UnitError
from lab.measure.pace import Pace, RoundPace
from lab.plugins.bench.harness import validation
from lab.plugins.bench.harness.costs import CostRounds
from lab.plugins.bench.harness.driver_client import OpenLoopTrial
from lab.plugins.bench.harness.result import BenchResult
from lab.plugins.bench.harness.validation import BOUNDS, TOPOLOGIES, UTILISATIONS, Effort, Point, Validation, validate
from lab.plugins.bench.suites import capacity
from lab.plugins.capacity.assumptions import Assumptions
from lab.plugins.capacity.costs import TITLE, costs_of
from lab.plugins.capacity.fleet import Demand
from lab.plugins.capacity.fleet_sizing import survey
from lab.plugins.capacity.prediction import LANES, Alone, predict
from lab.plugins.capacity.queues import Cluster
from lab.report.picture import to_svg
from models.stub.behaviour import ConstantLatency

KEPT_UP = Pace(offered=10, achieved_rate=10, schedule_delay_p99_ms=0.1, late_rounds=0, repeated=0)


def test_a_request_takes_what_it_took_alone_and_what_it_waits() -> None:
    alone = Alone(np.array([0.011]), overhead_s=0.001)
    [round_] = predict(alone, [np.array([0.0, 0.001, 0.5])], Cluster(replicas=1, slots=1), seed=0)

    # The slot is taken for 10 ms, so the second waits for 9; the way is not in the queue.
    assert round_.reshape(3, LANES)[:, 0].tolist() == [pytest.approx(11), pytest.approx(20), pytest.approx(11)]
    assert alone.rate(0.5, 4) == pytest.approx(0.5 * 4 / 0.010)


def test_predictions_are_drawn_by_their_seed() -> None:
    alone = Alone(np.linspace(0.01, 0.02, 50), overhead_s=0.001)
    first, again, other = (
        predict(alone, [np.arange(20) / 100], Cluster(replicas=2, slots=1), seed=seed)[0] for seed in (1, 1, 2)
    )

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_nothing_follows_from_nothing() -> None:
    with pytest.raises(InputError, match="low load"):
        Alone(np.array([]), 0.0)


def test_a_prediction_that_is_off_by_too_much_does_not_hold() -> None:
    measured = [np.linspace(10, 20, 100)] * 3
    for factor, holds in ((1.1, [True, True]), (1.2, [False, True]), (0.7, [False, False])):
        predicted = [factor * each for each in measured]
        point = Point(topology="mesh", utilisation=0.6, rps=9.0, predicted=predicted, measured=measured, pace=KEPT_UP)
        assert [claim.holds for claim in point.claims()] == holds


def test_the_bench_shows_predictions_costs_and_what_follows_from_them() -> None:
    measured = [np.linspace(10, 20, 100)] * 3
    points = [
        Point(topology=name, utilisation=0.6, rps=9.0, predicted=measured, measured=measured, pace=KEPT_UP)
        for name in TOPOLOGIES
    ]
    alone = {name: Alone(np.array([0.02]), 0.001) for name in TOPOLOGIES}
    costs = CostRounds(Path(), ["caller", "resolver", "sidecar", "gateway"])
    for name in TOPOLOGIES:
        costs.rps[name, 30_000] = [500.0] * 3
        costs.cpu_s |= {(name, 30_000, part): [0.5] * 3 for part in costs.parts}
    of_costs = BenchResult(
        name="", unit="rps", samples={}, claims=[], notes=["n"], tables=[costs.table()], charts=[costs.chart(30_000)]
    )
    demand = Demand(rps=1e6, payload_bytes=30_000, callers=30, clusters=2_000, slots=4, service_s=0.02)
    read = costs_of(of_costs.to_document(), "here")
    computed = survey(demand, ConstantLatency(20), read, Assumptions(), simulated=False)

    found = capacity.result(of_costs, Validation(alone, points, Path(), 3), computed)

    assert [claim.holds for claim in found.claims] == [True] * 4
    assert {len(values) for values in found.samples.values()} == {3}
    titles = [each.title for each in found.shown_tables()]
    assert titles[:3] == ["latency predicted and measured, ms", TITLE, "assumed; each is an option"]
    assert all(to_svg(chart, "") for chart in found.shown_charts())
    assert found.tables[1].written()[:1] == [["gateway", "30,000", *["0.500"] * 4, "2.000"]]


@pytest.mark.timeout(300)
def test_a_real_labs_latency_is_predicted_before_it_is_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))

    # It takes its services' time first, and loads them then: a machine that others slow down between may mislead it.
    for _ in range(3):
        found = validate(lambda _: None, 2, Effort(idle_s=0.6, alone_s=2.0, loaded_s=0.8))
        if all(_is_about(*point.quantile_ms(share)) for point in found.points for share in BOUNDS):
            break

    assert [(name, busy) for name in TOPOLOGIES for busy in UTILISATIONS] == [
        (each.topology, each.utilisation) for each in found.points
    ]
    in_file = json.loads((found.folder / "predictions.json").read_text())
    for point, written in zip(found.points, in_file, strict=True):
        for share in BOUNDS:
            predicted, measured = point.quantile_ms(share)
            assert predicted == written[f"p{100 * share:g}_ms"]
            assert _is_about(predicted, measured), (point, share, predicted, measured)
        assert [LANES * len(each) for each in point.measured] == [len(each) for each in point.predicted]
    assert len(found.claims()) == len(found.table().rows) * len(BOUNDS)


def test_a_loaded_trial_that_fails_leaves_a_gap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pace = RoundPace(offered=10, achieved_rate=10, schedule_delay_p99_ms=0.1, late=False)
    idle, busy = (OpenLoopTrial(ms, pace, [MagicMock(intended_ns=0, done_ns=ms * 1_000_000)] * 50) for ms in (1, 20))
    calls: list[str] = []

    def run_open_loop(_variant: object, _arrivals: object, label: str, *_: object, **__: object) -> OpenLoopTrial:
        calls.append(label)
        if label.startswith("mesh, Poisson") and len(calls) % 2:
            raise UnitError(f"{label}: 142 of 265 failed")
        return idle if len(calls) <= len(TOPOLOGIES) * 4 else busy

    monkeypatch.setattr(validation, "_service_times", lambda _: nullcontext())
    monkeypatch.setattr(validation, "write_parquet", lambda *_: None)
    environment = MagicMock(interrupted=False, missing=[])
    driver = MagicMock(run_open_loop=run_open_loop)

    found = validation._Run(environment, driver, tmp_path, 4, Effort()).validation()

    failed = len(found.missing)
    assert failed > 0
    assert all("142 of 265 failed" in each for each in found.missing)
    assert sum(len(point.measured) for point in found.points) == len(TOPOLOGIES) * len(UTILISATIONS) * 4 - failed
    for point in found.points:
        assert len(point.predicted) == len(point.measured)


def test_costs_stay_when_the_validation_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Validation:
        raise UnitError("nothing was measured: 142 of 265 failed")

    costs = BenchResult(name="", unit="rps", samples={"mesh": [1.0]}, claims=[], notes=["n"])
    monkeypatch.setattr(capacity, "measure_costs", lambda *_: costs)
    monkeypatch.setattr(capacity, "validate", fail)

    found = capacity.run(MagicMock(), 3)

    assert found.samples == costs.samples
    assert found.missing == ["validation: nothing was measured: 142 of 265 failed"]


def _is_about(predicted: float, measured: float) -> bool:
    """A few dozen requests tell little more than the order of magnitude, and the median is at least a service."""
    return 1 / 3 < predicted / measured < 3
