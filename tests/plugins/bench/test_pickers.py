"""The crossover map: who wins by interval, or undecided, from recorded numbers; and the bench's smallest form."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lab.checkers import Outcome, Verdict, Violation
from lab.errors import InputError, UnitError
from lab.measure.findings import State
from lab.pickers import GATEWAY, PICKERS, Cannot
from lab.plugins.bench.harness import crossover
from lab.plugins.bench.harness.bench import BENCHES, measure
from lab.plugins.bench.harness.crossover import FIGURES, Cell, beside_published, losing, standing
from lab.plugins.bench.harness.environment import Environment
from lab.plugins.bench.harness.published_picks import PUBLISHED, Published
from lab.plugins.bench.suites import pickers
from lab.plugins.bench.suites.pickers import Load, Place
from lab.report.heat import HeatMap
from lab.routing.compiled import Router
from lab.routing.document import Source, read_sources
from lab.routing.slo import Slo
from lab.runs.judging import RunResult
from lab.spec import read_spec

CELL = Cell(0.9, 130, 50)
# Recorded: TTFT p50, ms, in five rounds.
PREFIX = [61.0, 58.0, 70.0, 64.0, 59.0]
QUEUE = [122.0, 131.0, 118.0, 140.0, 125.0]
ROUND_ROBIN = [120.0, 135.0, 116.0, 138.0, 129.0]
NAN = math.nan


def test_a_picker_wins_that_is_better_than_each_other_by_the_whole_interval() -> None:
    its = standing({"round-robin": ROUND_ROBIN, "prefix": PREFIX, "queue-depth": QUEUE})

    assert (its.leader, its.wins, str(its)) == ("prefix", True, "prefix")
    assert its.ahead is not None
    assert its.ahead.high < 1


def test_where_more_is_better_the_greatest_wins() -> None:
    values = {"round-robin": ROUND_ROBIN, "prefix": PREFIX}
    assert standing(values, more_is_better=True)[:2] == ("round-robin", True)
    assert standing(values)[:2] == ("prefix", True)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"round-robin": ROUND_ROBIN, "queue-depth": QUEUE}, id="they overlap"),
        pytest.param({"a": PREFIX, "b": PREFIX, "c": QUEUE}, id="one beats the last alone"),
        pytest.param({"a": PREFIX[:4], "b": QUEUE[:4]}, id="four rounds, all on one side"),
        pytest.param({"a": [*PREFIX[:4], NAN], "b": QUEUE}, id="a fifth round that was not valid"),
        pytest.param({"a": PREFIX}, id="alone"),
        pytest.param({"a": PREFIX, "b": [NAN] * 5}, id="nothing to compare with"),
        pytest.param({"a": [NAN] * 5, "b": [NAN] * 5}, id="nothing"),
        pytest.param({}, id="no picker"),
    ],
)
def test_what_is_not_clear_is_undecided(values: crossover.Values) -> None:
    its = standing(values)

    assert not its.wins
    assert str(its) == "undecided"


def test_affinity_loses_where_it_is_worse_than_the_best_without() -> None:
    affine = {"prefix", "session"}
    values = {"prefix": QUEUE, "session": PREFIX, "queue-depth": [2.0 * each for each in PREFIX], "round-robin": PREFIX}

    assert losing(values, affine) == ["prefix"]
    assert losing({"prefix": QUEUE, "session": PREFIX}, affine) == []
    assert losing({**values, "prefix": [9.0] * 5}, affine) == []


def _published(**changes: Any) -> Published:
    both = {"picker": "prefix", "against": "round-robin", "figure": "ttft_p50_ms", "side": "worse"}
    return Published(source="somewhere", says="something", **{**both, **changes})


def _found(**values: list[float]) -> crossover.Found:
    named = {name.replace("_", "-"): each for name, each in values.items()}
    return {CELL: dict.fromkeys(FIGURES, named)}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (_published(side="better"), "reproduced: 90 % shared, load 130 %, signal 50 ms"),
        (_published(side="worse"), "contradicted: 90 % shared, load 130 %, signal 50 ms"),
        (_published(side="worse", figure="goodput_rps"), "reproduced: 90 % shared, load 130 %, signal 50 ms"),
        (_published(side="same"), "contradicted: 90 % shared, load 130 %, signal 50 ms"),
        (_published(picker="round-robin", against="queue-depth"), "undecided: 90 % shared"),
        (_published(picker="round-robin", against="queue-depth", side="same"), "reproduced: 90 % shared"),
        (_published(loads=(0, 90)), "not measured"),
        (_published(shares=(0, 0.1)), "not measured"),
        (_published(turns=(1, 1)), "not measured"),
        (_published(against="weighted"), "not measured"),
    ],
)
def test_a_published_result_stands_beside_the_cells_that_speak_of_it(entry: Published, said: str) -> None:
    found = _found(prefix=PREFIX, round_robin=ROUND_ROBIN, queue_depth=QUEUE)

    [each] = beside_published(found, 2, [entry])

    assert each.in_words.startswith(said)


def test_every_published_result_names_pickers_and_figures_that_there_are() -> None:
    for each in PUBLISHED:
        assert {each.picker, each.against} <= PICKERS.keys(), each
        assert each.figure in FIGURES, each
        assert any(
            each.speaks_of(share, load, turns) for share in pickers.SHARES for load in pickers.LOADS for turns in (1, 2)
        ), each


def test_third_party_routers_are_arms_on_their_own_paths() -> None:
    foreign = next(each for each in pickers.BENCH.options if each.name == "foreign")
    own = next(each for each in pickers.BENCH.options if each.name == "pickers")
    assert {*foreign.choices()} == {"smg", "smg-neutral", "vllm-router", "vllm-router-neutral"}
    assert {"prefix", "round-robin"} <= {*own.choices()}
    assert "cache-aware" not in own.choices()

    spec = pickers.spec_of("cache-aware at smg-neutral", 50)
    assert spec.startswith('topologies = ["smg-neutral"]\npicker = "cache-aware"\n')
    assert pickers.spec_of("prefix", 50).startswith('topologies = ["gateway"]\npicker = "prefix"\n')


def test_round_robin_meets_no_user_twice_in_a_row_at_a_replica() -> None:
    rates = [load / 100 * pickers.capacity_rps(share, 2) for share in pickers.SHARES for load in pickers.LOADS]

    assert all(pickers.users_at(rate) % pickers.REPLICAS for rate in rates)


def test_each_round_measures_each_picker_in_each_cell_lab_by_lab_and_the_first_twice() -> None:
    cells = [Cell(share, 50, age_ms) for share in (0.1, 0.9) for age_ms in (50, 1_000)]

    for trials in pickers.orders(["prefix", "session"], cells, 3):
        assert sorted(trials) == sorted(
            [
                *(Place(name, cell) for name in ("prefix", "session") for cell in cells),
                Place("prefix", cells[0], again=True),
            ]
        )
        labs = [(each.picker, each.cell.age_ms) for each in trials]
        changes = [lab for lab, before in zip(labs, [None, *labs], strict=False) if lab != before]
        assert len(changes) == len(set(changes))


def _record(number: int, **changes: Any) -> SimpleNamespace:
    at_ns = number * 100_000_000
    values = {
        "request_id": f"r{number}",
        "intended_ns": at_ns,
        "sent_ns": at_ns + 1_000_000,
        "first_item_ns": 99_000_000,
        "done_ns": at_ns + 250_000_000,
        "status": "OK",
        "replica": "a",
        "usage": "100 25 0.000",
    }
    return SimpleNamespace(**{**values, **changes})


def test_the_figures_of_a_run_count_from_when_requests_were_due_and_leave_its_lead_out() -> None:
    records: Any = [
        _record(0, first_item_ns=9_000_000_000, usage="100 0 0.000"),
        *(_record(number) for number in range(5, 10)),
        _record(10, replica="b", first_item_ns=599_000_000, done_ns=1_750_000_000, usage="100 75 0.000"),
        _record(11, status="RESOURCE_EXHAUSTED", first_item_ns=0, usage=""),
    ]

    found = pickers.figures_of(records, {"r5": 500_000, "r6": 500_000}, lead_s=0.5)

    assert {name: round(value, 3) for name, value in found.items()} == {
        "ttft_p50_ms": 100,
        "ttft_p99_ms": 600,
        "itl_p50_ms": 10,
        "total_p50_ms": 250,
        "total_p99_ms": 750,
        "goodput_rps": round(5 / 0.6, 3),
        "hit_rate": round(200 / 600, 3),
        "imbalance": round(5 * pickers.REPLICAS / 6, 3),
        "failed": 1,
        "pick": 0.005,
    }
    with pytest.raises(UnitError, match="no request was answered"):
        pickers.figures_of([records[-1]], {}, lead_s=0)


@pytest.mark.parametrize(("pick", "state"), [(0.004, State.HOLDS), (0.03, State.FAILS)])
def test_a_pick_that_takes_more_than_its_part_of_the_time_fails_the_claim(pick: float, state: State) -> None:
    samples = {
        (Place(name, CELL, again), figure): list(values)
        for name, values in (("prefix", PREFIX), ("queue-depth", QUEUE))
        for again in (False, True)
        for figure in FIGURES
    }
    samples[Place("prefix", CELL), "pick"] = [pick] * 5

    result = pickers.result(samples, 5, ["prefix", "queue-depth"], [CELL], Load(2, 4.0))

    assert [(each.text, each.state) for each in result.claims] == [
        ("prefix: the pick's own time / TTFT, p50, worst cell", state)
    ]
    assert isinstance(chart := result.charts[0], HeatMap)
    assert chart.tiles[0][0].text == "prefix"
    assert str(result.tables[0].rows[0][4]).startswith("prefix, 0.472 [0.443, 0.593] × queue-depth")


def test_a_map_whose_control_finds_a_difference_is_in_doubt() -> None:
    samples = {
        (Place("prefix", CELL, again), figure): [1.0 + again] * 7 for again in (False, True) for figure in FIGURES
    }

    result = pickers.result(samples, 7, ["prefix"], [CELL], Load(2, 4.0))

    assert not result.controls[0].agrees
    assert result.tables[0].title.startswith("crossover map, in doubt: the A/A control disagrees")
    assert isinstance(chart := result.charts[0], HeatMap)
    assert "In doubt: the A/A control disagrees" in chart.note


def test_each_skew_of_system_prompts_has_a_sheet_of_its_own() -> None:
    cells = [CELL, CELL._replace(skew=0.0)]
    samples = {
        (Place(picker, cell, again), figure): [value + cell.skew] * 7
        for picker, value in (("prefix", 1.0), ("session", 3.0))
        for cell in cells
        for again in (False, True)
        for figure in FIGURES
    }

    result = pickers.result(samples, 7, ["prefix", "session"], cells, Load(2, 4.0))

    assert [row[3] for row in result.tables[0].rows] == ["1", "0"]
    assert [each.name for each in result.charts] == [
        f"crossover-ttft-{p}-skew-{skew}" for p in ("p50", "p99") for skew in (0, 1)
    ]
    assert isinstance(sheet := result.charts[0], HeatMap)
    assert sheet.title == "which picker wins, by TTFT p50, skew 0"
    assert f"TTFT p50, ms, prefix, {CELL}, skew 0" in result.samples


def test_one_map_has_one_number_of_turns() -> None:
    with pytest.raises(InputError, match="--turns: a map has one number"):
        pickers.run(cast("Any", None), 1, turns=["1", "2"])


@pytest.mark.parametrize("outcome", Outcome)
def test_only_a_run_whose_correctness_is_valid_counts(outcome: Outcome) -> None:
    wrong = (Violation("picks", 0, "r1", "wrong"),) if outcome is Outcome.INVALID else ()
    verdicts = Verdict("routing", Outcome.VALID, ""), Verdict("picks", outcome, "two picks", wrong)
    ran = RunResult(folder=Path("runs/1"), summary=cast("Any", None), verdicts=verdicts)

    if outcome is Outcome.VALID:
        pickers.require_valid(ran)
    else:
        with pytest.raises(UnitError, match=f"correctness is {outcome}: picks: two picks \\(runs/1\\)"):
            pickers.require_valid(ran)
    with pytest.raises(UnitError, match="correctness is unknown: picks were not judged"):
        pickers.require_valid(replace(ran, verdicts=verdicts[:1]))


def test_the_smallest_map_is_measured(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickers, "SECONDS", 1.0)

    dials = {"shares": ["0.9"], "loads": ["50"], "ages": ["50"]}
    result = measure(BENCHES["pickers"], environment, 1, pickers=["round-robin", "prefix"], **dials)

    assert not result.missing
    found = {name: values[0] for name, values in result.samples.items()}
    hits = [found[f"hit rate, {name}, 90 % shared, load 50 %, signal 50 ms"] for name in ("round-robin", "prefix")]
    assert 0 < hits[0] < hits[1] < 1
    assert [each.text.partition(":")[0] for each in result.claims] == ["prefix"]
    assert 0 < result.claims[0].figure.estimate < 1
    assert str(result.tables[0].rows[0][4]).startswith("undecided (")


def test_the_slo_that_a_picker_goes_by_is_that_of_the_goodput() -> None:
    router = Router.of_document(read_sources([Source("routes.yaml", pickers.routes())]).document)

    choice = router.resolve(pickers.USE_CASE, {"caller": pickers.CALLER})
    assert choice.slo == Slo(first_ms=pickers.SLO_MS)


@pytest.mark.parametrize("picker", [each for each in PICKERS if not isinstance(PICKERS[each].at(GATEWAY), Cannot)])
def test_every_picker_of_the_gateway_has_a_lab_to_be_measured_in(picker: str, tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(pickers.routes())
    (tmp_path / "spec.toml").write_text(f'routes = "routes.yaml"\n{pickers.spec_of(picker, 50)}')

    assert read_spec(tmp_path / "spec.toml").picker == picker
