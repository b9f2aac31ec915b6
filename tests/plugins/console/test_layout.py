"""Where the console's drawing puts names, marks and words, in a real browser."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from lab.plugins.console import page_with
from lab.plugins.console.board import message
from lab.plugins.console.drawing import Drawing, DrawnUnit
from lab.plugins.console.traffic import TICK_NS
from lab.waiting import eventually
from tests.browser import Page, chromium
from tests.checkers.builders import START_NS, two_versions

CALLER = "recommendations"
UNITS = [
    DrawnUnit(CALLER, "caller", CALLER),
    DrawnUnit(f"{CALLER}-resolver", "resolver", CALLER),
    DrawnUnit(f"{CALLER}-sidecar", "sidecar", CALLER),
    *(DrawnUnit(name, "model", name) for name in ("a-0", "a-1", "b-0")),
]
FIRST = START_NS // TICK_NS
# Pairs of elements that overlap: (what, with what).
OVERLAPPING = """((what, others) => [...document.querySelectorAll(what)].filter(one => one.textContent).flatMap(one => {
  const box = one.getBoundingClientRect();
  return [...document.querySelectorAll(others)].filter(other => {
    const its = other.getBoundingClientRect();
    return box.left < its.right && its.left < box.right && box.top < its.bottom && its.top < box.bottom;
  }).map(() => one.textContent);
}))"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The page of a run whose every request fails at the sidecar or the resolver, with long names."""
    interval = {
        "s": {"UNAVAILABLE": 3},
        "e": {f"{CALLER}>{CALLER}-sidecar": [0, 3], f"{CALLER}>{CALLER}-resolver": [0, 3]},
        "c": {},
        "l": {},
        "w": {},
        "x": [],
    }
    file = tmp_path_factory.mktemp("page") / "page.html"
    shown: dict[str, dict[str, Any]] = {
        "drawing": {"mesh": Drawing("mesh", [CALLER], UNITS, two_versions()).to_document()},
        "traffic": {f"mesh/{FIRST + number}": interval for number in range(40)},
        "older": {"mesh": {"until": FIRST - 1, "s": {"OK": 2_000, "UNAVAILABLE": 500}}},
        "revision": {"1": {"at_ns": START_NS}},
        "event": {
            str(number): {
                "kind": "kill",
                "undone_by": "start",
                "target": name,
                "past": "exited",
                "text": f"{name} killed",
            }
            | {"from_ns": START_NS + from_ticks * TICK_NS, "until_ns": START_NS + from_ticks * TICK_NS}
            for number, (name, from_ticks) in enumerate(((f"{CALLER}-sidecar", 2), (f"{CALLER}-resolver", 36)))
        },
    }
    file.write_text(page_with(message(shown, [])))
    with chromium() as page:
        page.open(file.as_uri())
        eventually(
            "the page is drawn",
            lambda: page.evaluate("document.querySelector('.share')?.textContent"),
            within=timedelta(seconds=30),
        )
        yield page


def overlapping(page: Page, what: str, others: str) -> list[str]:
    found: list[str] = page.evaluate(f"{OVERLAPPING}({what!r}, {others!r})")
    return found


@pytest.mark.parametrize(("width", "word"), [(1280, "100 % fail"), (3840, "100 % fail"), (390, "100 %")])
def test_no_mark_of_a_unit_lies_on_a_name_and_no_word_on_a_box(page: Page, width: int, word: str) -> None:
    page.resize(width)
    eventually(
        "it is drawn for this width",
        lambda: page.evaluate("document.querySelector('.share')?.textContent"),
        within=timedelta(seconds=30),
        until=lambda seen: seen == word,
    )
    assert overlapping(page, ".place text", ".unit") == []
    assert overlapping(page, ".share", ".place .box") == []


def test_the_figures_count_what_the_page_no_longer_keeps(page: Page) -> None:
    figures = [
        page.evaluate(f"document.querySelector('[data-topology=mesh] [data-figure={name}]').textContent")
        for name in ("answered", "failed")
    ]
    assert figures == ["2000", str(500 + 3 * 40)]


def test_a_cluster_lists_its_versions_by_model(page: Page) -> None:
    assert page.evaluate("[...document.querySelectorAll('.place .quiet')].map(each => each.textContent)") == [
        "rows v1",
        "rows v2",
    ]


def test_a_saved_run_is_called_a_run_and_its_last_moment_is_not_now(page: Page) -> None:
    assert page.evaluate("document.querySelector('h1').textContent").startswith("Run ")
    axes = page.evaluate(
        "[...document.querySelectorAll('#charts text[text-anchor=middle]')].map(each => each.textContent)"
    )
    assert ("then" in axes, "now" in axes) == (True, False)


def test_the_cursor_is_above_the_knob_and_a_fault_beside_its_name(page: Page) -> None:
    page.resize(1280)
    bands, slider = (
        page.evaluate(f"(box => [box.left, box.right])(document.querySelector('{name}').getBoundingClientRect())")
        for name in (".bands svg", "#scrubber")
    )
    assert bands == pytest.approx(slider, abs=1)
    ends = page.evaluate(
        "[...document.querySelectorAll('.bands .fault')].map(bar => [bar, bar.nextElementSibling])"
        ".map(pair => pair.map(each => each.getBoundingClientRect()))"
        ".map(([bar, name]) => Math.min(bar.right, name.right) - Math.max(bar.left, name.left))"
    )
    assert all(shared > 0 for shared in ends), "each name is below its bar"
