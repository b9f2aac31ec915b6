"""Reports in a real browser: nothing is cut, nothing is fetched, nothing complains, and no mouse is needed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from lab.plugins.bench.harness.result import ResultTable
from lab.report import read_benches, read_runs, write_report
from lab.report.bars import Bar, BarChart, BarGroup, Bound
from lab.report.picture import to_svg
from lab.report.scales import linear
from lab.runs import runs_in
from lab.waiting import eventually
from tests.browser import Page, await_true, chromium
from tests.report.test_bench_page import RESULT
from tests.report.test_blast import event_at, write_group
from tests.report.test_cost import bench_of, run_of

KINDS = ("one", "two", "kill", "bench")


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The address of a report of each kind."""
    return written_in(tmp_path_factory.mktemp("reports"))


def written_in(home: Path) -> dict[str, str]:
    """Writes a report of each kind, and returns their addresses."""
    two = read_runs([run_of(home, "mesh", 2.0), run_of(home, "gateway", 3.6)])
    events = [event_at("kill", "homepage-sidecar", 499), event_at("start", "homepage-sidecar", 900)]
    killed = read_runs(runs_in(write_group(home, events, ["homepage", "search", "playback"])))
    (benches := home / "benches").mkdir()
    cells = ("27 KB, 100 rps", "4 MB, 10 rps")
    bench_of(benches, {(each, cell): 1.5 for cell in cells for each in ("gateway", "mesh")}, cells)
    wide = ResultTable("wide", [f"column {number}" for number in range(20)], [["0.123 [0.100, 0.200]"] * 20])
    (benches / "cost.json").write_text(json.dumps(replace(RESULT, tables=[wide]).to_document()))
    contents = {"one": (two[:1], []), "two": (two, []), "kill": (killed, []), "bench": ([], read_benches(benches))}
    for name, (runs, of) in contents.items():
        write_report(runs, home / f"{name}.html", of)
    return {name: (home / f"{name}.html").as_uri() for name in contents}


# Texts that a dashed line crosses, and the number of dashed lines.
CROSSED = """(() => {
  const [lines, texts] = ['line[stroke-dasharray]', 'text'].map(each => [...document.querySelectorAll(each)]);
  const crosses = (line, text) => {
    const [a, b] = [line, text].map(each => each.getBoundingClientRect());
    return b.width && a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  };
  return [texts.filter(text => lines.some(line => crosses(line, text))).map(text => text.textContent), lines.length];
})()"""
UNFOLD = "document.querySelectorAll('details').forEach(each => each.open = true)"
# What has the focus, after keys: its tag, its text, and whether one sees that it has the focus.
FOCUS = """(() => {
  const at = document.activeElement;
  return [at.tagName, at.textContent.trim().slice(0, 40), getComputedStyle(at).outlineStyle !== 'none'];
})()"""


def test_an_expression_whose_page_is_left_has_no_value(page: Page, reports: dict[str, str]) -> None:
    page.open(reports["one"])
    assert page.probe("new Promise(() => { location.reload(); })") is None
    await_true(page, "document.readyState === 'complete'")


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_and_its_chart_are_above_the_fold(kind: str, page: Page, reports: dict[str, str]) -> None:
    page.open(reports[kind])

    places = page.evaluate("['h1', '.chart svg'].map(each => document.querySelector(each).getBoundingClientRect().top)")
    assert places[0] < 100
    assert places[1] < 500
    assert page.evaluate("document.body.scrollHeight") < 2500, "the rest is folded"


def test_a_fault_has_its_whole_name_in_a_narrow_window(page: Page, reports: dict[str, str]) -> None:
    page.open(reports["kill"], width=390)

    names = "[...document.querySelectorAll('.chart svg text')].filter(each => each.textContent.includes('killed'))"
    whole = "each => !each.closest('[clip-path]') && each.getBoundingClientRect().right < innerWidth"
    assert page.evaluate(f"{names}.length") > 0
    assert page.evaluate(f"{names}.every({whole})")


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_cut_fetched_or_wrong(kind: str, page: Page, reports: dict[str, str]) -> None:
    page.complaints.clear()
    page.requested.clear()

    for width, dark in ((800, False), (1400, True)):
        page.open(reports[kind], width=width, dark=dark)
        page.evaluate(UNFOLD)
        assert page.overflowing() == []
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert page.violations("serious", "critical") == []
    page.open(reports[kind], width=800, media="print")
    assert page.evaluate("document.querySelector('#machine, #benches').getBoundingClientRect().height") > 100

    assert page.complaints == []
    assert set(page.requested) == {reports[kind]}


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_phone_the_texts_of_charts_can_be_read(kind: str, page: Page, reports: dict[str, str]) -> None:
    page.complaints.clear()
    page.open(reports[kind], width=390)
    sizes = (
        "[...document.querySelectorAll('.chart svg text')].filter(each => each.checkVisibility() && each.textContent)"
        ".map(each => parseFloat(getComputedStyle(each).fontSize) * each.getScreenCTM().a)"
    )
    eventually(
        "the charts in view are drawn for this window",
        lambda: page.evaluate(f"Math.min(...{sizes}.slice(0, 8))"),
        within=timedelta(seconds=20),
        until=lambda least: bool(least >= 10),
    )
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    page.evaluate(UNFOLD)
    tables = "[...document.querySelectorAll('.scroll')].filter(each => each.scrollWidth > each.clientWidth + 1)"
    eventually(
        "every table can be reached",
        lambda: page.evaluate(f"{tables}.every(each => each.tabIndex === 0)"),
        within=timedelta(seconds=20),
    )
    found = page.violations("minor", "moderate", "serious", "critical")
    # axe takes the discs at points for a background, which are transparent until one points at them.
    assert [each for each in found if not each.startswith("color-contrast")] == []
    assert page.complaints == []


def test_a_wide_table_scrolls_and_can_be_reached(page: Page, reports: dict[str, str]) -> None:
    page.open(reports["bench"], width=800)
    page.evaluate(UNFOLD)

    wide = "document.querySelector('.scroll[aria-label=wide]')"
    assert page.evaluate(f"{wide}.scrollWidth > {wide}.clientWidth")
    eventually("the table can be reached", lambda: page.evaluate(f"{wide}.tabIndex") == 0, within=timedelta(seconds=5))


def test_every_control_works_by_keyboard(page: Page, reports: dict[str, str]) -> None:
    page.open(reports["two"])
    controls = page.evaluate(
        "[...document.querySelectorAll('a, button, summary, .chart')].filter(each => each.checkVisibility()).length"
    )

    reached = []
    for _ in range(controls + 10):
        page.press("Tab")
        tag, text, seen = page.evaluate(FOCUS)
        if tag == "BODY":
            break
        reached.append((tag, text))
        assert seen, f"{text}: one does not see that it has the focus"

    tags = Counter(tag for tag, text in reached if text)  # without the menus of charts
    assert {tag: tags[tag] for tag in ("A", "SUMMARY", "BUTTON")} == {"A": 8, "SUMMARY": 8, "BUTTON": 1}
    page.evaluate("document.querySelector('nav a[href=\"#latency\"]').focus()")
    page.press("Enter")
    await_open("#latency", page)
    page.evaluate("document.querySelector('#machine > summary').focus()")
    page.press("Enter")
    await_open("#machine", page)
    page.evaluate("document.querySelector('#all').focus()")
    page.press(" ")
    assert page.evaluate("[...document.querySelectorAll('details.section')].every(each => each.open)")


def await_open(section: str, page: Page) -> None:
    eventually(
        f"{section} unfolds",
        lambda: page.evaluate(f"document.querySelector('{section}').open"),
        within=timedelta(seconds=5),
    )


def test_a_chart_comes_alive_by_keyboard(page: Page, reports: dict[str, str]) -> None:
    page.open(reports["two"])
    page.complaints.clear()

    page.evaluate("document.querySelector('.chart').focus()")

    eventually(
        "the chart has its menu",
        lambda: page.evaluate("!!document.querySelector('.chart summary')"),
        within=timedelta(seconds=10),
    )
    found = page.violations("serious", "critical")
    # axe takes the discs at points for a background, which are transparent until one points at them.
    assert [each for each in found if not each.startswith("color-contrast")] == []
    assert page.complaints == []


def ticks(page: Page) -> list[str]:
    """The texts of the first chart's axes and names, each with its place, once it is alive."""
    found: list[str] = page.evaluate(
        "[...document.querySelectorAll('.chart[data-live] .vega-embed svg text')]"
        ".map(each => `${each.textContent} ${Math.round(each.getBoundingClientRect().left)}`)"
    )
    return sorted(found)  # a tick that comes back is the last one in the document


def test_a_chart_pans_and_zooms_by_keyboard(page: Page, reports: dict[str, str]) -> None:
    page.open(reports["two"])
    page.evaluate("document.querySelector('.chart').focus()")
    within = timedelta(seconds=10)
    whole = eventually("the chart is alive", lambda: ticks(page), within=within)

    for keys in (["ArrowRight"], ["+", "+"], ["-"]):
        for key in keys:
            page.press(key)
        eventually(f"{keys} changes it", lambda: ticks(page) != whole, within=within)
        assert page.evaluate("document.activeElement.matches('.chart')")
        page.press("0")
        eventually("0 resets it", lambda: ticks(page) == whole, within=within)


def test_the_line_of_a_bound_crosses_no_text(page: Page, tmp_path: Path) -> None:
    names = ("requests that a stalled connection makes late, HTTP/2, one connection / one each", "late in all")
    values = (2.7, 0.9, 0.97, 1.0, 1.9)
    bars = [
        Bar(f"{name}, {value:g}", "run-1", value, value, value, "8.000 (≥ 3)") for name in names for value in values
    ]
    bounds = [Bound("bound", 1.0), Bound("a bound with a long name", 1.1), Bound("the last", 2.9)]
    chart = BarChart("figures against their bounds", linear("x", 3), [BarGroup("", bars)], bounds=bounds)
    (file := tmp_path / "chart.svg").write_text(to_svg(chart))

    page.open(file.as_uri())

    crossed, lines = page.evaluate(CROSSED)
    assert crossed == []
    assert lines > len(bounds)
