"""What each section finds in a run."""

import math
from pathlib import Path
from typing import Any

import pytest

from lab.history import UNSENT
from lab.load.arrivals import Poisson, Trace
from lab.report import read_run, read_runs, render
from lab.report.chart import spec_of_lines
from lab.report.sections import answers, latency, machine, timeline, verdicts
from lab.runs import judge
from lab.runs.events import Event
from lab.topologies import TOPOLOGIES
from tests.events import event
from tests.report.builders import make_record, make_revision, write_run

START_NS = 1_700_000_000_000_000_000
SECOND = 1_000_000_000


def test_arrivals_are_said_with_their_parameters() -> None:
    assert verdicts.arrivals_text(Poisson(200.0, 5.0, 0)) == "poisson: rate 200, duration 5 s, seed 0"
    assert verdicts.arrivals_text(Trace("/somewhere/code.csv", 60.0)) == "trace: file code.csv, speedup 60"


def test_the_curve_climbs_from_the_least_to_the_greatest_value(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path, [make_record(each, latency_ms=each + 1) for each in range(400)]))

    points = latency.curve(run)

    values = [value for _, value in points]
    assert sorted(values) == values
    assert pytest.approx((values[0], values[-1]), rel=1e-3) == (1, 400)
    assert run.result.summary.p90_ms == pytest.approx(next(ms for share, ms in points if share >= 90), rel=0.01)


def test_rates_are_stairs_that_add_up() -> None:
    stairs = timeline.rates([0.0, 0.1, 0.9, 2.0], 2.0, 4)

    assert stairs == [(0.0, 4.0), (0.5, 4.0), (0.5, 2.0), (1.0, 2.0), (1.0, 0.0), (1.5, 0.0), (1.5, 2.0), (2.0, 2.0)]


def test_revisions_that_went_out_during_the_run_are_marked(tmp_path: Path) -> None:
    at = [START_NS + tenth * SECOND // 10 for tenth in range(20)]
    revisions = [
        make_revision(1, loaded=1, converged=2),
        make_revision(2, stored=at[2], failed=at[3]),
        make_revision(3, stored=at[4], loaded=at[5], failed=at[6]),
        make_revision(4, loaded=at[10], converged=at[12]),
        make_revision(5, loaded=START_NS + 60 * SECOND, converged=START_NS + 61 * SECOND),
    ]
    run = read_run(write_run(tmp_path, revisions=revisions))

    (found,) = timeline.view([run])

    assert found.rates is not None
    assert [mark.label for mark in found.rates.marks] == ["revision 3 failed", "revision 4 goes out"]


def test_events_of_units_are_marked_until_they_are_undone(tmp_path: Path) -> None:
    def event_at(kind: str, at_s: float, target: str = "a-0", detail: str = "") -> Event:
        at_ns = START_NS + round(at_s * SECOND)
        return event(kind, target, at_ns, at_ns, detail)

    events = [
        event_at("pause", -5, "a-1"),
        event_at("kill", 0.5),
        event_at("start", 1.0),
        event_at("scale", 1.5, "a", "to 3 replicas"),
        event_at("resume", 60, "a-1"),
        event_at("kill", 70),
    ]
    run = read_run(write_run(tmp_path, events=events))

    marks = timeline.marks_of_events(run, 2.0)

    assert [(mark.label, mark.start, mark.end) for mark in marks] == [
        ("a-1 paused", 0.0, 2.0),
        ("a-0 killed", 0.5, 1.0),
        ("a scaled to 3 replicas", 1.5, 1.5),
    ]


def test_a_pause_shows_in_the_latency_over_time(tmp_path: Path) -> None:
    stalled = range(200, 400)  # from 1.0 to 2.0 s, all answered at its end
    records = [make_record(each, latency_ms=(400 - each) * 5 if each in stalled else 1) for each in range(400)]

    (found,) = timeline.view([read_run(write_run(tmp_path, records))])

    assert found.latency is not None
    assert "1,000" in [text for _, text in found.latency.y.ticks]


def test_a_time_without_answers_breaks_the_lines_of_the_latency(tmp_path: Path) -> None:
    records = [make_record(each, status="UNAVAILABLE" if 200 <= each < 500 else "OK") for each in range(800)]

    (found,) = timeline.view([read_run(write_run(tmp_path, records))])

    assert found.latency is not None
    for line in found.latency.lines:
        (gap,) = [at for at, ms in line.points if math.isnan(ms)]
        assert 1.0 < gap < 2.5
    assert [point["y"] for point in spec_of_lines(found.latency)["data"]["values"]].count(None) == 2


def test_runs_of_one_topology_share_its_colour_and_differ_in_dashes(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path, name=name, topology=name.split("-")[0]) for name in ("mesh-1", "gateway-1", "mesh-2")
    ]

    mesh, gateway = TOPOLOGIES["mesh"].colour, TOPOLOGIES["gateway"].colour
    assert [run.style for run in read_runs(folders)] == [mesh, gateway, f"{mesh} again-1"]


def test_answers_are_counted_by_who_gave_them(tmp_path: Path) -> None:
    nobody: dict[str, Any] = dict.fromkeys(("model", "version", "cluster", "replica"), "")
    records = [
        *(make_record(each) for each in range(5)),
        make_record(5, version="v2", cluster="b", replica="b-0"),
        make_record(6, source="default", **nobody),
        make_record(7, status="UNAVAILABLE", message="no healthy upstream"),
        make_record(8, status=UNSENT),
    ]

    run = read_run(write_run(tmp_path, records))

    assert [(each.version, each.cluster, each.count, each.replicas) for each in answers.answered(run)] == [
        ("rows@v1", "a", 5, [("a-0", 3), ("a-1", 2)]),
        ("rows@v2", "b", 1, [("b-0", 1)]),
        (answers.OWN_ANSWER, "", 1, []),
    ]
    assert [(each.status, each.count, each.message) for each in answers.not_answered(run)] == [
        ("UNAVAILABLE", 1, "no healthy upstream"),
        (UNSENT, 1, ""),
    ]


def test_runs_on_the_same_ground_stand_together(tmp_path: Path) -> None:
    folders = [write_run(tmp_path, name=name) for name in ("one", "two", "three")]
    (folders[1] / "versions.json").write_text('{"grpcio": "1.86.0"}')

    grounds = machine.view([read_run(folder, number=number) for number, folder in enumerate(folders, 1)])

    assert [[run.number for run in sharing] for _, sharing in grounds] == [[1, 3], [2]]


def test_a_run_of_several_tenants_is_shown_by_tenant(tmp_path: Path) -> None:
    tenants = ["ads", "<kids>"]
    folder = write_run(
        tmp_path, [make_record(each, tenant=tenants[each % 2], latency_ms=1 + each % 2) for each in range(400)]
    )
    result = judge(folder)
    assert pytest.approx([each.p50_ms for each in result.summary.by_tenant.values()], rel=2e-3) == [2, 1]
    page = render(read_runs([folder]))
    assert '<td class="whole">&lt;kids&gt;</td><td class="number">200</td><td class="number">2.00</td>' in page
    assert "The same run by tenant" not in render(read_runs([write_run(tmp_path, name="20231114T221321.000Z")]))


def test_each_payload_has_its_own_chart_of_at_most_five_runs(tmp_path: Path) -> None:
    runs = [
        write_run(
            tmp_path,
            [make_record(each, latency_ms=number + 1) for each in range(400)],
            name=f"2023111{number}T221320.000Z",
            payload_bytes=payload,
        )
        for number, payload in enumerate([400] * 7 + [4_000_000] * 2)
    ]
    small, large = latency.charts_of(read_runs(runs))

    assert (small.title, large.title) == (
        "Latency of answers by percentile, 400 B, the 5 slowest of 7 runs",
        "Latency of answers by percentile, 4 MB",
    )
    assert [round(line.points[0][1]) for line in small.lines] == [3, 4, 5, 6, 7]
    assert len(large.lines) == 2
