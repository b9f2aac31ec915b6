"""Benches in a report: what does not hold is said, and every chart becomes a file."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from lab.errors import RunError
from lab.measure.compare import Interval
from lab.measure.control import control
from lab.measure.pace import Pace
from lab.plugins.bench.harness.result import BenchResult, Claim, Ran, ResultTable
from lab.report import is_of_benches, read_benches, read_run, render
from lab.report.chart import Chart, Line
from lab.report.picture import scripts, to_svg
from lab.report.scales import linear
from tests.lab_command import run_lab
from tests.report.builders import write_run

FIGURE = Interval(estimate=1.4, low=1.1, high=float("inf"), confidence=0.95, rounds=7)
RESULT = BenchResult(
    name="cost",
    unit="ms",
    samples={"direct": [1.0, 2.0, 3.0], "<mesh>": [2.0, 3.0, 4.0]},
    claims=[
        Claim(text="adds little", figure=FIGURE, at_most=1.5),
        Claim(text="adds nothing", figure=FIGURE, at_most=1.0),
        Claim(text="adds something", figure=FIGURE, at_least=1.0),
    ],
    notes=["on a quiet machine"],
    tables=[ResultTable(title="p50", columns=("arm", "ms"), rows=[["direct", 2.0], ["<mesh>", -3.0]], numbers=("ms",))],
    charts=[Chart("p50 by rate", linear("rps", 9), linear("ms", 9), [Line("<mesh>", "run-1", [(0, 1), (9, 9)])])],
    ran=Ran(started="2026-01-02T03:04:05+00:00", took_s=6.0, rounds=7, machine={"cpus": "2", "grpcio": "1.85.3"}),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "runs" / "bench" / "now"
    made.mkdir(parents=True)
    (made / "cost.json").write_text(json.dumps(RESULT.to_document()))
    return made


def test_a_bench_is_on_the_page_with_what_holds_and_what_does_not(folder: Path) -> None:
    html = render([], read_benches(folder))

    short, whole = html.split('id="benches"')
    assert (short.count("</span> holds</span>"), short.count("</span> does not hold</span>")) == (0, 1)
    assert "1 claim holds, 1 does not hold, 1 undecided" in short
    assert "adds nothing: 1.400, bound ≤ 1" in short
    assert (whole.count("</span> holds</span>"), whole.count("</span> does not hold</span>")) == (1, 1)
    for found in (
        "&lt;mesh&gt;",
        "−3.000",
        "n = 7",
        "on a quiet machine",
        "2026-01-02 03:04:05 UTC",
        "1.85.3",
        "≤ 1.5",
    ):
        assert found in html
    assert "<mesh>" not in html
    (svg,) = html.replace(scripts(), "").split("<svg")[1:]
    ET.fromstring("<svg" + svg.split("</svg>")[0] + "</svg>")  # noqa: S314 (our own)


def test_undecided_claims_and_failed_controls_stand_out(folder: Path) -> None:
    doubted = Claim(text="adds little", figure=FIGURE, at_most=1.5, doubts=("the driver could not keep up",))
    broken = control("direct again − direct", [1.0] * 10, [2.0] * 10)
    late = Pace(offered=500, achieved_rate=400, schedule_delay_p99_ms=9, late_rounds=2)
    gap = replace(RESULT, samples={"direct": [1.0, float("nan"), 3.0]}, missing=["round 2, direct: no answer"])
    result = replace(gap, claims=[doubted], controls=[broken], paces={"mesh, 27 KB": late})
    (folder / "cost.json").write_text(json.dumps(result.to_document()))

    html = render([], read_benches(folder))

    assert "</span> undecided</span>" in html
    assert "the driver could not keep up" in html
    assert "DISAGREES: THE TOOL FINDS A DIFFERENCE THAT DOES NOT EXIST" in html
    assert "achieved ≥ 80.0% of the offered rate" in html
    assert "could not keep up in mesh, 27 KB" in html
    assert "missing</span> round 2, direct: no answer" in html


def test_a_result_is_read_back_as_it_was_written(folder: Path) -> None:
    (bench,) = read_benches(folder)

    assert (RESULT.ran, RESULT.claims) == (bench.ran, bench.claims)
    assert [to_svg(chart) for chart in RESULT.charts] == [to_svg(chart) for chart in bench.charts]


def test_a_result_from_before_there_were_charts_can_be_read(folder: Path) -> None:
    document = RESULT.to_document()
    for name in ("tables", "charts", "ran"):
        del document[name]
    (folder / "cost.json").write_text(json.dumps(document))

    assert "does not hold" in render([], read_benches(folder))


@pytest.mark.parametrize("content", ["{", "[]", '{"name": "cost"}'])
def test_a_broken_result_is_one_line(content: str, folder: Path) -> None:
    (folder / "cost.json").write_text(content)

    with pytest.raises(RunError, match=r"cost\.json") as caught:
        read_benches(folder)

    assert "\n" not in str(caught.value)


def test_a_runs_folder_is_not_one_of_benches(folder: Path, tmp_path: Path) -> None:
    assert [is_of_benches(each) for each in (folder, write_run(tmp_path), tmp_path)] == [True, False, False]


def test_runs_and_benches_share_a_page(folder: Path, tmp_path: Path) -> None:
    html = render([read_run(write_run(tmp_path))], read_benches(folder))

    assert html.index('id="benches"') < html.index('id="verdicts"')
    assert "answers wrong. Cost: 1 claim holds, 1 does not hold, 1 undecided.</h1>" in html
    assert "Cost, 1 bench; mesh, 1 run<" in html


def test_the_command_writes_every_chart_as_an_image(folder: Path, tmp_path: Path) -> None:
    done = run_lab(None, "report", folder, write_run(tmp_path), "--png", tmp_path / "charts", "--json")

    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert str(folder / "report.html") == document["report"]
    written = [Path(each) for each in document["png"]]
    assert sorted(each.name for each in written) == [
        "cost-p50-by-rate.png",
        "latency.png",
        "spread-1.png",
        "timeline-1.png",
        "timeline-latency-1.png",
    ]
    assert all(each.read_bytes().startswith(b"\x89PNG") for each in written)


def test_the_command_prints_tables_and_keeps_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lab.plugins.bench.commands import bench  # noqa: PLC0415 (its console is made for this very output)

    bench._keep(RESULT, tmp_path)
    bench._show(RESULT)

    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "cost-p50-by-rate.png",
        "cost-p50-by-rate.svg",
        "cost.json",
    ]
    printed = capsys.readouterr().out
    for found in ("direct", "2.000", "−3.000", "does not hold", "2026-01-02 03:04:05 UTC"):
        assert found in printed
