import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from lab.measure.compare import Interval
from lab.measure.control import Control, control
from lab.plugins.bench.harness import h2load, topology_rounds
from lab.plugins.bench.harness.bench import BENCHES, measure
from lab.plugins.bench.harness.environment import Environment
from lab.plugins.bench.harness.result import BenchResult, Claim, ResultTable, State, exit_status
from lab.plugins.bench.harness.variant import LoadPoint
from lab.plugins.bench.suites import (
    blast_radius,
    capacity,
    convergence,
    decomposition,
    encodings,
    gateway_throughput,
    large_table,
    links,
    multiplexing,
    on_demand,
    pages,
    pickers,
    saturation,
    throughput,
    tracing,
    trust,
)
from tests.missing import missing

ELSEWHERE = {blast_radius.BENCH.name, capacity.BENCH.name, pickers.BENCH.name}
"""Benches that have a file of tests of their own, with a run among them."""


def _figure(estimate: float, low: float = -1.0, high: float = 1.0) -> Interval:
    """An estimate with an interval of so much around it."""
    return Interval(estimate=estimate, low=estimate + low, high=estimate + high, confidence=0.95, rounds=3)


@pytest.mark.parametrize(
    ("bounds", "state"),
    [
        ({"at_most": 6.0}, State.HOLDS),
        ({"at_most": 5.5}, State.UNDECIDED),
        ({"at_most": 4.5}, State.UNDECIDED),
        ({"at_most": 3.9}, State.FAILS),
        ({"at_least": 4.0}, State.HOLDS),
        ({"at_least": 4.5}, State.UNDECIDED),
        ({"at_least": 6.1}, State.FAILS),
        ({"at_least": 4.0, "at_most": 6.0}, State.HOLDS),
        ({"at_least": 4.5, "at_most": 9.0}, State.UNDECIDED),
        ({"at_least": 1.0, "at_most": 3.9}, State.FAILS),
        ({}, State.HOLDS),
    ],
)
def test_a_claim_is_decided_by_the_whole_interval(bounds: dict[str, Any], state: State) -> None:
    assert state == Claim(text="", figure=_figure(5.0), **bounds).state


def test_a_figure_that_is_no_number_keeps_no_bound() -> None:
    assert not Claim(text="", figure=_figure(float("inf")), at_most=1.5).holds
    assert not Claim(text="", figure=_figure(float("nan")), at_most=1.5, at_least=0.0).holds


def test_a_claim_that_rests_on_a_late_driver_is_undecided_be_its_figure_good_or_bad() -> None:
    for figure in (_figure(-1.0), _figure(3.0)):
        assert State.UNDECIDED is Claim(text="", figure=figure, at_most=1.0, doubts=("the driver was late",)).state


def _result(*claims: Claim, controls: list[Control] | None = None) -> BenchResult:
    return BenchResult(name="x", unit="ms", samples={}, claims=claims, notes=[], controls=controls or [])


def test_the_exit_status_tells_failed_from_undecided() -> None:
    good, bad, undecided = (Claim(text="", figure=_figure(each), at_most=2.0) for each in (0.5, 4.0, 1.5))
    doubted = Claim(text="", figure=_figure(0.5), at_most=2.0, doubts=("late",))
    broken, whole = control("", [1.0] * 10, [2.0] * 10), control("", [1.0] * 10, [1.0] * 10)

    assert exit_status([_result(good, controls=[whole])]) == 0
    assert exit_status([_result(undecided), _result(good, bad)]) == 1
    assert exit_status([_result(good), _result(undecided)]) == 2
    assert exit_status([_result(good), _result(doubted)]) == 2
    assert exit_status([_result(good, controls=[broken])]) == 2


def test_a_result_keeps_every_round() -> None:
    result = BenchResult(name="x", unit="ms", samples={"a": [1.0, 3.0, 2.0]}, claims=[], notes=["n = 3"])

    document = json.loads(json.dumps(result.to_document()))

    assert document["rounds"] == {"a": [1.0, 3.0, 2.0]}
    assert document["medians"] == {"a": 2.0}


def test_a_result_has_a_table_and_a_chart_even_if_its_bench_made_none() -> None:
    of_one_unit = BenchResult(name="x", unit="ms", samples={"a": [1.0, 3.0, 2.0]}, claims=[], notes=[])
    claim = Claim(text="c", figure=_figure(1.2), at_most=1.0)
    mixed = BenchResult(name="x", unit="as named", samples={"a": [1.0]}, claims=[claim], notes=[])

    assert of_one_unit.shown_tables()[0].written() == [["a", "2.000"]]
    assert [each.shown_charts()[0].name for each in (of_one_unit, mixed)] == ["medians", "claims"]


def test_a_table_with_a_cell_too_few_is_refused() -> None:
    with pytest.raises(ValueError, match="row of 1"):
        ResultTable(title="t", columns=("a", "b"), rows=[["x"]])
    with pytest.raises(ValueError, match="no column 'c'"):
        ResultTable(title="t", columns=("a", "b"), rows=[], numbers=("c",))


@pytest.fixture(scope="module")
def short(environment: Environment) -> Iterator[Environment]:
    """The environment, with every bench short."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (trust, gateway_throughput, throughput):
            patch.setattr(module, "SECONDS", 0.1)
        points = tuple(LoadPoint(payload, rate=100, requests=10) for payload in (400, 27_000))
        for module in (topology_rounds, tracing, trust, links):
            patch.setattr(module, "LOAD_POINTS", points)
        patch.setattr(trust, "DELAYS_MS", (10.0,))
        patch.setattr(links, "DELAYS_MS", (0.0, 2.0))
        patch.setattr(pages, "PATHS", ("mesh", "gateway"))
        patch.setattr(pages, "FAN_OUTS", (1, 12))
        patch.setattr(pages, "DEPTHS", (1, 2))
        patch.setattr(pages, "SECONDS", 0.3)
        patch.setattr(saturation, "SHARES", (0.5, 1.0, 1.3))
        patch.setattr(saturation, "SECONDS", 0.2)
        patch.setattr(saturation, "KNEE_SECONDS", 0.2)
        patch.setattr(saturation, "KNEE_TRIALS", 1)
        patch.setattr(trust, "RUNS", 1)
        patch.setattr(multiplexing, "SECONDS", 0.2)
        patch.setattr(trust, "BUSY_RPS", 500.0)
        patch.setattr(encodings, "SECONDS", 0.02)
        patch.setattr(encodings, "LEAST_REQUESTS", 3)
        patch.setattr(convergence, "PUBLISHES", 2)
        for module in (large_table, on_demand):
            patch.setattr(module, "CHANGES", 2)
        patch.setattr(large_table, "USE_CASES", 100)
        patch.setattr(on_demand, "SIZES", (10, 100))
        yield environment


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # what aiohttp does is what is measured
@pytest.mark.parametrize("name", [name for name in BENCHES if name not in ELSEWHERE])
def test_a_bench_measures_each_variant_once_a_round(short: Environment, name: str) -> None:
    result = measure(BENCHES[name], short, 2)
    if name == trust.SECOND_OPINION.name and not h2load.H2Load.is_there():
        assert result.missing == [h2load.NOT_MEASURED]
        missing("h2load")

    assert name == result.name
    assert {2} == {len(values) for values in result.samples.values()}
    compared_rounds = [each for each in result.controls if each.text.startswith("even rounds")]
    assert len(compared_rounds) == (0 if BENCHES[name].controls else 1) <= len(result.controls)
    assert not result.missing
    # That nobody followed the old rules after a publish went out would be a good result, too.
    # A change may concern nobody: then not a byte is sent to a sidecar on demand.
    # What a part adds may be less than the scatter of two short rounds.
    may_be_zero = dict.fromkeys((convergence.BENCH, on_demand.BENCH, multiplexing.BENCH), 0.0)
    least = {**may_be_zero, decomposition.BENCH: -1e9}.get(BENCHES[name], 1e-9)
    assert all(value >= least for values in result.samples.values() for value in values)
    assert result.claims or name == throughput.BENCH.name


def test_what_is_missing_is_no_success_and_null_in_json() -> None:
    whole = BenchResult(name="x", unit="ms", samples={"a": [1.0, float("nan")]}, claims=[], notes=[])
    result = replace(whole, missing=["round 2, a: no answer"])

    assert [exit_status([each]) for each in (whole, result)] == [0, 2]
    document = json.loads(json.dumps(result.to_document(), allow_nan=False))
    assert (document["rounds"], document["medians"]) == ({"a": [1.0, None]}, {"a": 1.0})
    assert document["missing"] == ["round 2, a: no answer"]
