"""What the gateway costs: found at once, at each payload and rate, and never from runs that differ in more."""

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.checkers import Claim, Outcome, Verdict
from lab.load.arrivals import Constant
from lab.measure.control import control
from lab.measure.pace import Pace
from lab.plugins.bench.harness.result import BenchResult
from lab.report import ReportedBench, read_benches, read_runs, render
from lab.report.cost import QUESTION, charts, cost
from lab.report.run import ReportedRun
from tests.events import event
from tests.report.builders import make_record, write_run

ROUNDS = 10
LATE = Pace(offered=500, achieved_rate=400, schedule_delay_p99_ms=9, late_rounds=2)


def bench_of(
    folder: Path, added: Mapping[tuple[str, str], float], cells: Sequence[str] = ("0.4 KB, 500 rps",), **more: Any
) -> ReportedBench:
    """What the bench ``topologies`` leaves, read back; ``added``: ms over direct's 1 ms, by topology."""
    samples = {f"direct, {cell}": [1.0 + number / 100 for number in range(ROUNDS)] for cell in cells}
    for (topology, cell), ms in added.items():
        samples[f"{topology}, {cell}"] = [each + ms for each in samples[f"direct, {cell}"]]
    result = BenchResult(name="topologies", unit="ms (p50)", samples=samples, claims=[], notes=[], **more)
    (folder / "topologies.json").write_text(json.dumps(result.to_document()))
    return read_benches(folder)[0]


def test_a_bench_answers_by_payload_and_rate(tmp_path: Path) -> None:
    small, fast, large = "0.4 KB, 100 rps", "0.4 KB, 500 rps", "4 MB, 10 rps"
    bench = bench_of(
        tmp_path,
        {
            ("mesh", large): 3.0,
            ("gateway", large): 12.5,
            ("direct again", small): 0.0,
            ("static-envoy", small): 0.2,
            ("gateway", small): 0.5,
            ("mesh", small): 0.25,
            ("gateway", fast): 0.625,
        },
        cells=(large, fast, small),
    )

    (table,) = cost([], [bench]).tables

    assert (table.base, table.topologies) == ("direct", ["gateway", "mesh"])
    assert [(row.payload, row.rate) for row in table.rows] == [
        ("0.4 KB", "100 rps"),
        ("0.4 KB", "500 rps"),
        ("4 MB", "10 rps"),
    ]
    assert [row.added["gateway"].text for row in table.rows] == ["+0.500", "+0.625", "+12.500"]
    assert list(table.rows[1].added) == ["gateway"]
    assert table.answer == (
        "Over direct, the gateway adds 0.500 ms (0.4 KB, 100 rps) to 12.500 ms (4 MB, 10 rps) to the median request; "
        "the mesh 0.250 ms (0.4 KB, 100 rps) to 3.000 ms (4 MB, 10 rps)."
    )


def test_a_doubtful_arm_gives_no_answer(tmp_path: Path) -> None:
    bench = bench_of(
        tmp_path,
        {("gateway", "27 KB, 500 rps"): 0.5, ("gateway", "4 MB, 10 rps"): 12.5, ("mesh", "4 MB, 10 rps"): 3.0},
        cells=("27 KB, 500 rps", "4 MB, 10 rps"),
        paces={"gateway, 27 KB, 500 rps": LATE},
        controls=[control("direct again − direct, p50, 4 MB, 10 rps, ms", [1.0] * 10, [2.0] * 10)],
    )

    (table,) = cost([], [bench]).tables

    assert "What the gateway adds is unknown" in table.answer
    late, broken = table.doubts
    assert late.startswith("gateway, 27 KB, 500 rps: the driver could not keep up")
    assert broken.startswith("the A/A control disagrees: direct again")


def test_a_bench_without_topologies_compares_its_yardsticks(tmp_path: Path) -> None:
    cell = "27 KB, 100 rps"
    added = {("direct again", cell): 0.0, ("http2-proxy", cell): 0.75, ("static-envoy", cell): 0.25}

    (table,) = cost([], [bench_of(tmp_path, added, cells=(cell,))]).tables

    assert table.topologies == ["http2-proxy", "static-envoy"]
    [headline] = table.headlines
    assert headline.text.startswith("Http2-proxy +0.75 ms")
    assert [each.text for each in table.rows[0].added.values()] == ["+0.750", "+0.250"]


def test_a_bench_without_such_arms_answers_nothing(tmp_path: Path) -> None:
    assert not cost([], [bench_of(tmp_path, {}, cells=("here", "there"))]).tables


def run_of(home: Path, topology: str, p50_ms: float, name: str = "", **changes: Any) -> Path:
    """Writes a run whose latencies scatter a little around a p50."""
    draw = random.Random(topology)  # noqa: S311 (no secret)
    records = [make_record(each, latency_ms=p50_ms * draw.uniform(0.9, 1.1), topology=topology) for each in range(400)]
    return write_run(home, records, topology=topology, name=name or topology, **changes)


def test_runs_that_differ_in_nothing_else_answer_with_intervals(tmp_path: Path) -> None:
    runs = read_runs([run_of(tmp_path, "gateway", 3.0), run_of(tmp_path, "mesh", 2.0), run_of(tmp_path, "direct", 1.0)])

    found = cost(runs, [])

    (table,), refusals = found.tables, found.refusals
    assert not refusals
    assert [row.percentile for row in table.rows] == ["p50", "p99"]
    assert (table.rows[0].payload, table.rows[0].rate, table.rows[0].count) == ("400 B", "200 rps, constant", "400")
    for way, ms in (("gateway", 2.0), ("mesh", 1.0)):
        estimate, low, high = table.rows[0].added[way].values
        assert estimate == pytest.approx(ms, abs=0.1)
        assert low < estimate < high
    assert "share no rounds" in table.note
    assert [chart.name for chart in charts(found)] == ["cost-400 B-200 rps, constant"]
    html = render(runs)
    assert html.index('id="outline"') < html.index(f"<h2>{QUESTION}") < html.index('id="latency"')


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"payload_bytes": 27_000}, "payload (27 KB, 400 B)"),
        ({"arrivals": Constant(100, 4.0)}, "rate (100 rps, 200 rps)"),
        ({"caller": "search"}, "caller (search, homepage)"),
        ({"seed": 7}, "seed (7, 0)"),
        ({"versions": {"grpcio": "1.85.3", "kernel": "6.1", "runtime": "compose"}}, "runtime (runtime compose, "),
        ({"events": [event("kill", "a-0", 1, 2)]}, "faults (a-0 kill, none)"),
    ],
)
def test_runs_that_differ_in_more_are_not_compared(changes: dict[str, Any], named: str, tmp_path: Path) -> None:
    runs = read_runs([run_of(tmp_path, "direct", 1.0), run_of(tmp_path, "gateway", 3.0, **changes)])

    found = cost(runs, [])

    assert not found.tables
    (refusal,) = found.refusals
    assert re.match(r"Run 2 gateway(, \w+)? is not compared with run 1 direct", refusal)
    assert named in refusal


def test_a_refusal_is_on_the_page(tmp_path: Path) -> None:
    runs = read_runs([run_of(tmp_path, "direct", 1.0), run_of(tmp_path, "gateway", 3.0, seed=7)])

    (refusal,) = cost(runs, []).refusals
    assert refusal in render(runs)


def test_each_payload_is_compared_with_its_own(tmp_path: Path) -> None:
    folders = [
        run_of(tmp_path, topology, ms * size / 400, name=f"{topology}-{size}", payload_bytes=size)
        for size in (27_000, 400)
        for topology, ms in (("gateway", 3.0), ("direct", 1.0))
    ]

    (table,) = cost(read_runs(folders), []).tables

    assert [row.payload for row in table.rows] == ["400 B", "400 B", "27 KB", "27 KB"]


def test_a_run_that_is_not_valid_is_no_answer(tmp_path: Path) -> None:
    runs = read_runs([run_of(tmp_path, "direct", 1.0), run_of(tmp_path, "gateway", 3.0)])
    runs = [judged(run, outcome) for run, outcome in zip(runs, (Outcome.VALID, Outcome.UNKNOWN), strict=True)]

    (table,) = cost(runs, []).tables

    assert list(table.doubts) == ["run 2 gateway: correctness: ; try a longer `--duration`"]
    assert "What the gateway adds is unknown" in table.answer


def judged(run: ReportedRun, outcome: Outcome) -> ReportedRun:
    """The run, with this outcome of every claim."""
    verdicts = tuple(Verdict(claim, outcome, "", claim=claim) for claim in Claim)
    return replace(run, result=replace(run.result, verdicts=verdicts))


def test_without_a_run_to_compare_with_that_is_said(tmp_path: Path) -> None:
    found = cost(read_runs([run_of(tmp_path, "gateway", 1.0), run_of(tmp_path, "mesh-unleased", 1.0)]), [])

    assert (len(found.tables), len(found.refusals)) == (0, 1)
    assert "no run of direct or mesh" in found.refusals[0]
    assert not cost(read_runs([run_of(tmp_path, "mesh", 1.0)]), []).refusals
