"""The top of a report: one sentence with two digits, what not to trust, and the command that tells more."""

from __future__ import annotations

import math
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lab.checkers import Claim, Outcome, Verdict, Violation
from lab.cli import app
from lab.lab import Lab
from lab.load.arrivals import Constant, Poisson
from lab.load.plan import UseCase, read_plan
from lab.report import ReportedBench, next_run, read_run, read_runs
from lab.report.cost import cost
from lab.report.digits import difference, in_two_digits, with_interval
from lab.report.fault_reach import blasts
from lab.report.headline import Answer, answer
from lab.report.run import ReportedRun
from lab.runs import LoadOptions, runs_in
from lab.runs.drive import DEFAULT_CONTEXTS
from tests.report.builders import make_record, write_run
from tests.report.test_blast import event_at, write_group
from tests.report.test_cost import LATE, bench_of, run_of


def top_of(runs: list[ReportedRun], benches: list[ReportedBench] | None = None) -> Answer:
    benches = benches or []
    return answer(runs, benches, cost(runs, benches), blasts(runs, benches))


def with_verdict(run: ReportedRun, claim: Claim, outcome: Outcome) -> ReportedRun:
    """The run, judged so and with right answers; every other claim is valid."""
    verdicts = tuple(
        Verdict("driver", outcome if each is claim else Outcome.VALID, "as is", claim=each) for each in Claim
    )
    return replace(run, result=replace(run.result, verdicts=verdicts, wrong=0))


def test_two_runs_say_what_the_gateway_costs(tmp_path: Path) -> None:
    runs = read_runs([run_of(tmp_path, "mesh", 2.0), run_of(tmp_path, "gateway", 3.6)])
    runs = [with_verdict(run, Claim.TIMING, Outcome.VALID) for run in runs]

    top = top_of(runs)

    assert top.sentence == "Gateway +1.6 ms [1.6, 1.6] over mesh at 400 B, 200 rps, p50; all 800 answers right."
    assert (list(top.doubts), [shown.chart.name for shown in top.charts]) == ([], ["latency"])


def test_a_busy_machine_is_in_the_sentence_with_what_to_do(tmp_path: Path) -> None:
    runs = read_runs([run_of(tmp_path, "mesh", 2.0), run_of(tmp_path, "gateway", 3.6)])
    runs = [with_verdict(runs[0], Claim.TIMING, Outcome.VALID), with_verdict(runs[1], Claim.TIMING, Outcome.UNKNOWN)]

    assert top_of(runs).sentence.endswith(
        "p50; treat ± as a guess: this machine was busy; try `--rate 100`. All 800 answers right."
    )


def test_one_run_says_what_it_can_and_which_commands_compare_it(tmp_path: Path) -> None:
    run = read_run(run_of(tmp_path, "mesh", 2.0))

    top = top_of([with_verdict(run, Claim.TIMING, Outcome.VALID)])

    assert top.sentence.startswith("Mesh p50 2.0")
    assert top.sentence.endswith("at 400 B, 200 rps; all 400 answers right.")
    command, report = top.commands
    assert command.startswith("lab load --topology gateway --rate 200 --duration 2 --arrivals constant")
    assert report == "lab report runs/lab/mesh runs/lab/latest"


def test_wrong_answers_come_first(tmp_path: Path) -> None:
    run = with_verdict(read_run(write_run(tmp_path)), Claim.TIMING, Outcome.VALID)
    wrong = Verdict(
        "routing", Outcome.INVALID, "40 not as the rules say; 400 in all", (Violation("routing", 0, "", ""),)
    )
    run = replace(run, result=replace(run.result, verdicts=(*run.result.verdicts, wrong), wrong=40))

    top = top_of([run])

    assert top.sentence.startswith("40 of 400 answers wrong. Mesh p50 1.0 ms")
    assert list(top.doubts) == [
        (Outcome.INVALID, "Run 1 mesh: routing is wrong, says the checker routing: 40 not as the rules say.")
    ]


def test_a_bench_that_shows_no_difference_names_its_rounds_first(tmp_path: Path) -> None:
    cells = ("27 KB, 100 rps",)
    same = bench_of(tmp_path, {(topology, cells[0]): 1.5 for topology in ("gateway", "mesh")}, cells)

    sentence = top_of([], [same]).sentence
    assert sentence.startswith("Gateway ≈ 0 ms [0, 0] over mesh at 27 KB, 100 rps, p50 of 10 rounds")
    assert sentence.endswith("p50 of 10 rounds: no difference shown.")


def test_a_bench_says_what_the_gateway_costs_over_the_mesh(tmp_path: Path) -> None:
    cells = ("400 B, 100 rps", "27 KB, 100 rps", "27 KB, 500 rps")
    added = {(topology, cell): ms for cell in cells for topology, ms in (("gateway", 2.5), ("mesh", 1.0))}

    assert top_of([], [bench_of(tmp_path, added, cells)]).sentence == (
        "Gateway +1.5 ms [1.5, 1.5] over mesh at 27 KB, 100 rps, p50 of 10 rounds; "
        "+1.5 ms [1.5, 1.5] at 400 B, 100 rps."
    )
    late = bench_of(tmp_path, added, cells, paces={"gateway, 27 KB, 100 rps": LATE})
    assert "at 27 KB, 500 rps, p50 of" in top_of([], [late]).sentence, "what is in doubt is not a headline"
    late = bench_of(tmp_path, added, cells, paces={f"mesh, {cell}": LATE for cell in cells})
    sentence = top_of([], [late]).sentence
    assert "rps; treat ± as a guess: this machine was busy, try `lab bench topologies --rounds" in sentence


def test_a_fault_says_whom_it_reached_and_shows_each_caller(tmp_path: Path) -> None:
    events = [event_at("kill", "homepage-sidecar", 499), event_at("start", "homepage-sidecar", 900)]
    runs = read_runs(runs_in(write_group(tmp_path, events, ["homepage", "search"])))
    runs = [with_verdict(run, Claim.TIMING, Outcome.VALID) for run in runs]

    top = top_of(runs)

    assert top.sentence.startswith("homepage-sidecar killed: 1 of 2 callers hit (homepage), 50 % [")
    assert "100 requests failed for a known cause" in top.sentence
    unexplained = [with_verdict(run, Claim.AVAILABILITY, Outcome.UNKNOWN) for run in runs]
    assert "100 requests failed." in top_of(unexplained).sentence
    assert [shown.heading for shown in top.charts] == [
        "homepage over mesh: 300 right, 100 failed",
        "search over mesh: 400 right",
    ]
    assert len({run.style for run in runs}) == 2, "callers have colours of their own"


def test_a_failure_is_no_latency(tmp_path: Path) -> None:
    records = [make_record(each, latency_ms=0.1, status="UNAVAILABLE") for each in range(200)]
    records += [make_record(each, latency_ms=5.0) for each in range(200, 400)]

    run = read_run(write_run(tmp_path, records))

    assert run.figures["p50"].estimate == pytest.approx(5.0)
    assert (len(run.latencies_ms), run.sent) == (200, 400)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.649, "1.6"), (0.0534, "0.053"), (0.996, "1.0"), (42.4, "42"), (1234, "1,200"), (0, "0"), (-3.14, "−3.1")],
)
def test_two_digits(value: float, text: str) -> None:
    assert in_two_digits(value) == text


def test_an_interval_bounds_the_digits() -> None:
    assert with_interval(1.62, 1.04, 2.21, unit="ms") == "1.6 ms [1.0, 2.2]"
    assert with_interval(1.62, -math.inf, math.inf, unit="ms") == "1.6 ms [−∞, ∞]"


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        ((1.62, 1.04, 2.21), "+1.6 ms [1.0, 2.2]"),
        ((-1.62, -2.21, -1.04), "−1.6 ms [−2.2, −1.0]"),
        ((0.003, -1.21, 1.3), "≈ 0 ms [−1.2, 1.3]"),
        ((0, 0, 0), "≈ 0 ms [0, 0]"),
        ((0.4, 0, 0.8), "≈ 0 ms [0.00, 0.80]"),
    ],
)
def test_a_difference_whose_interval_holds_zero_is_about_zero(interval: tuple[float, float, float], text: str) -> None:
    assert difference(*interval, unit="ms") == text
    assert difference(*interval, unit="ms", ends=False) == text.partition(" [")[0]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"arrivals": Constant(50, 3.0), "payload_bytes": 27_000, "caller": "search", "users": 7, "seed": 3},
        {
            "contexts": {"tenant": ("ads", "ads", "kids"), "device": ("tv",)},
            "use_cases": (UseCase("Rows", "ranking.v1"),),
        },
        {"tear_every": 9, "streams": 0, "edge_every": 0},
        {"drivers": 3},
    ],
)
def test_the_command_repeats_the_run(changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = {
        "arrivals": Poisson(60, 20.0, 0),
        "use_cases": (UseCase("Rows", "ranking.v1"), UseCase("Other", "ranking.v1")),
        "streams": 10,
        "edge_every": 10,
        "contexts": DEFAULT_CONTEXTS,
    }
    plan = read_plan(write_run(tmp_path, **{**usual, **changes}) / "plan.json")
    seen: list[LoadOptions] = []

    def load(_: Lab, options: LoadOptions, **__: object) -> None:
        seen.append(options)
        raise SystemExit

    monkeypatch.setattr(Lab, "load", load)
    command = next_run.command(plan, lab="x", topology="gateway", may_call=["Rows", "Other"])
    CliRunner().invoke(app, shlex.split(command)[1:])

    (options,) = seen
    assert options.topology == "gateway"
    assert (options.rate, options.duration_s) == (plan.arrivals.rate, plan.arrivals.duration_s)  # type: ignore[union-attr]
    assert options.arrivals == plan.arrivals.kind
    assert options.use_cases == (() if len(plan.use_cases) > 1 else ("Rows",))
    drawn = ("caller", "payload_bytes", "users", "seed", "contexts")
    same = (*drawn, "tear_every", "drivers", "streams", "edge_every")
    assert {name: getattr(options, name) for name in same} == {name: getattr(plan, name) for name in same}
