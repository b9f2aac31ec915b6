"""Blast radii in a report: a table and a heat map, from a bench or from runs at the same time."""

import json
from dataclasses import replace
from math import inf
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from lab.errors import RunError
from lab.measure.hit_requests import Ending
from lab.measure.single_run_intervals import Figure
from lab.plugins.bench.suites.blast_radius import result
from lab.report import is_of_benches, read_benches, read_runs, render, write_album
from lab.report.fault_reach import doubts_of, heat_of, percent, table_of
from lab.report.heat import HeatMap, Tile, spec_of_heat
from lab.report.picture import scripts, to_svg
from lab.runs.events import Event
from lab.runs.fault_rounds import Radius, Spread
from lab.runs.folder import TOGETHER
from lab.runs.parallel import runs_in
from tests.events import event
from tests.report.builders import make_record, write_run

MS = 1_000_000
START_NS = 1_700_000_000_000_000_000

HIT = Radius(
    fault="gateways-killed",
    topology="gateway",
    rounds=2,
    unknown=(),
    callers=Spread((5, 4)),
    of_callers=5,
    only_slow=(False, False),
    tenants=Spread((3, 3)),
    of_tenants=3,
    requests=Figure(estimate=0.996, low=0.98, high=0.999, confidence=0.95, count=500, independent=400),
    failed=0.99,
    degraded=0.0,
    slow=0.006,
    endings=(Ending.REFUSED, Ending.OPEN),
    detect=Spread((0.0, inf)),
    noticed=Spread((0.02, 0.03)),
    heal=Spread((0.5, 1.5)),
    budget=475.4,
)
SPARED = replace(
    HIT,
    topology="mesh",
    callers=Spread((0, 0)),
    tenants=Spread((0, 0)),
    requests=Figure(estimate=0.0, low=0.0, high=0.007, confidence=0.95, count=520, independent=520),
    failed=0.0,
    slow=0.0,
    endings=(),
    detect=None,
    heal=None,
    budget=0.0,
)
UNKNOWN = Radius(fault="gateways-killed", topology="proxyless", rounds=0, unknown=("search: 0 requests before it",))
RADII = [HIT, SPARED, UNKNOWN]


def test_a_row_says_how_many_how_long_and_of_how_many() -> None:
    table = table_of(RADII)
    hit, spared, unknown = (dict(zip(table.columns, row, strict=True)) for row in table.written())

    assert (
        hit["callers hit"],
        hit["tenants hit"],
        hit["requests hit"],
    ) == ("4 to 5 of 5", "3 of 3", "99.6 % [98.0, 99.9]")
    assert hit["how"] == "failed 99.0 %, slow 0.6 %"
    assert hit["clear after"] == "refused, open never [0.00, never]"
    assert (hit["healed after"], hit["budget spent"], hit["n"]) == ("1.00 s [0.50, 1.50]", "475 ×", "500 in 2")
    assert (
        spared["callers hit"],
        spared["requests hit"],
        spared["healed after"],
        spared["budget spent"],
    ) == ("0 of 5", "0 % [0.0, 0.7]", "–", "0")
    assert set(unknown.values()) - {"gateways-killed", "proxyless"} == {"unknown"}
    assert doubts_of(RADII) == ["gateways-killed, proxyless: unknown in 1 of 1 rounds: search: 0 requests before it"]


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0 %"), (1, "100 %"), (0.004, "0.4 %"), (0.63, "63 %"), (0.9996, "100.0 %")]
)
def test_shares_close_to_nothing_and_to_all_keep_a_digit(share: float, text: str) -> None:
    assert text == percent(share)


def test_unknown_is_not_drawn_as_nothing() -> None:
    other = replace(HIT, fault="sidecar-killed", topology="mesh")
    chart = heat_of([*RADII, other], is_on_path=lambda _, topology: topology == "gateway")

    assert [[tile.text for tile in row] for row in chart.tiles] == [["99.6 %", "0 %", "?"], ["–", "99.6 %", "–"]]
    assert [tile.more for tile in chart.tiles[0]] == ["4 to 5 of 5 callers", "not in the path", "unknown"]
    tiles = spec_of_heat(chart)["data"]["values"]
    assert [(each["known"], each["letters"] == "#000") for each in tiles[:3]] == [
        (True, True),
        (True, False),
        (False, False),
    ]
    assert tiles[1]["strength"] == 0 < spec_of_heat(heat_of([HIT]))["data"]["values"][0]["strength"]
    ET.fromstring(to_svg(chart))  # noqa: S314 (our own)


def test_a_heat_map_with_a_tile_too_few_or_beyond_all_is_refused() -> None:
    with pytest.raises(ValueError, match="not one tile"):
        HeatMap("h", ["a", "b"], ["c"], [[Tile(0.5, "")]])
    with pytest.raises(ValueError, match=r"a tile has the value 1\.5"):
        HeatMap("h", ["a"], ["c"], [[Tile(1.5, "")]])


def test_the_page_of_a_bench_shows_each_figure_once(tmp_path: Path) -> None:
    found = replace(result(RADII, callers_of_cluster=2, notes=["n = 2 rounds"]), name="blast-radius")
    (tmp_path / "blast-radius.json").write_text(json.dumps(found.to_document()))

    html = render([], read_benches(tmp_path))

    assert html.index('id="blast"') < html.index('id="benches"')
    assert 1 == html.replace(scripts(), "").count("<svg") == html.count('<table class="blast">')
    for text in ("all gateways killed", "the control plane knew after 0.03 s", "98.0 to 99.9", "4 to 5 of 5", "475 ×"):
        assert text in html
    assert html.count('aria-label="unknown" title="unknown"') == 8
    assert "search: 0 requests before it" in html
    (png,) = write_album([], read_benches(tmp_path), tmp_path)
    assert png.read_bytes().startswith(b"\x89PNG")


def test_claims_hold_do_not_hold_and_are_undecided() -> None:
    everybody = replace(HIT, callers=Spread((5, 5)))
    reached = replace(HIT, topology="mesh", callers=Spread((0, 1)))

    def states(*radii: Radius) -> list[str]:
        return [str(claim.state) for claim in result(radii, callers_of_cluster=2, notes=[]).claims]

    assert states(everybody, SPARED) == ["holds", "holds"]
    assert states(HIT, SPARED) == ["does not hold", "holds"]
    assert states(everybody, reached) == ["holds", "does not hold"]
    assert states(everybody, UNKNOWN) == ["holds", "undecided"]
    assert states() == []


def test_slow_answers_in_few_rounds_may_be_the_machines() -> None:
    def state(*rounds: tuple[int, bool]) -> str:
        callers, only_slow = zip(*rounds, strict=True)
        reached = replace(SPARED, rounds=len(rounds), callers=Spread(callers), only_slow=only_slow)
        (claim,) = result([reached], callers_of_cluster=2, notes=[]).claims
        return str(claim.state)

    assert state((0, False), (0, False), (0, False)) == "holds"
    assert state((0, False), (1, True), (0, False)) == "undecided"
    assert state((0, False), (1, True), (2, True)) == "does not hold"
    assert state((0, False), (1, True), (1, False)) == "does not hold"


def write_group(home: Path, events: list[Event], callers: list[str]) -> Path:
    """Runs at the same time; requests of ``homepage`` fail from 0.5 s to 1 s."""
    for caller in callers:
        records = [
            make_record(
                number,
                caller=caller,
                status="UNAVAILABLE" if caller == "homepage" and 100 <= number < 200 else "OK",
            )
            for number in range(400)
        ]
        folder = write_run(home, records, name=f"group/mesh-{caller}", caller=caller, events=events)
    group = folder.parent
    (group / TOGETHER).write_text(json.dumps([f"mesh-{caller}" for caller in callers]))
    return group


def event_at(kind: str, target: str, at_ms: float, took_ms: float = 5) -> Event:
    from_ns = START_NS + round(at_ms * MS)
    return event(kind, target, from_ns, from_ns + round(took_ms * MS))


def test_runs_at_the_same_time_show_whom_a_fault_reached(tmp_path: Path) -> None:
    events = [event_at("kill", "homepage-sidecar", 499), event_at("start", "homepage-sidecar", 900)]
    group = write_group(tmp_path, events, ["homepage", "search"])

    runs = read_runs(runs_in(group))
    html = render(runs)

    assert not is_of_benches(group)
    assert "homepage-sidecar killed" in html
    assert ">1 of 2 callers</text>" in html
    assert 'id="blast"' not in render(read_runs([write_run(tmp_path, events=events)]))
    assert "blast-radius-1-requests-hit.png" in [each.name for each in write_album(runs, [], tmp_path)]


def test_runs_without_a_fault_have_no_such_section(tmp_path: Path) -> None:
    assert 'id="blast"' not in render(read_runs(runs_in(write_group(tmp_path, [], ["homepage", "search"]))))


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', "[1]"])
def test_a_broken_list_of_runs_is_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / TOGETHER).write_text(content)
    with pytest.raises(RunError, match=TOGETHER) as caught:
        runs_in(tmp_path)
    assert "\n" not in str(caught.value)
