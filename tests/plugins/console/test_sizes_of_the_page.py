"""The page in windows and with labs of every size: the drawing is in view, can be read, and axe has no objection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lab.plugins.console import page_with
from lab.plugins.console.board import message
from lab.plugins.console.drawing import Drawing, DrawnUnit
from lab.plugins.console.traffic import TICK_NS
from lab.roles import ROLES, Placement
from lab.routing.document import read_path
from lab.spec import SIZES, read_spec
from lab.topologies import TOPOLOGIES
from lab.waiting import eventually
from tests.browser import Page, chromium
from tests.checkers.builders import START_NS

SPEC = read_spec(SIZES["default"])
TABLE = read_path(SPEC.routes).document
FIRST = START_NS // TICK_NS
LEAST_PX, SMALLEST_PX = 10, 7.5
"""On a phone; and where thirty rows must fit a window."""
EVERY_IMPACT = ("minor", "moderate", "serious", "critical")
TEXTS = "[...document.querySelectorAll('.place text')]"
# How large each text of the drawing is on the screen, in pixels.
SIZES_OF_TEXTS = (
    f"{TEXTS}.map(each => parseFloat(getComputedStyle(each).fontSize)"
    " * each.ownerSVGElement.getBoundingClientRect().width / each.ownerSVGElement.viewBox.baseVal.width)"
)
# Texts that stick out of their boxes.
STICKING_OUT = (
    f"{TEXTS}.filter(each => each.getBoundingClientRect().right"
    " > each.parentElement.querySelector('.box').getBoundingClientRect().right + 1).map(each => each.textContent)"
)


def units_of(topologies: Sequence[str], callers: Sequence[str]) -> list[DrawnUnit]:
    """The units of a lab of these, two of each role that callers share."""
    units = [DrawnUnit(name, "caller", name) for name in callers]
    roles = dict.fromkeys(role for name in topologies for role in TOPOLOGIES[name].roles)
    for role in roles:
        if ROLES[role].placement is Placement.BESIDE_CALLER:
            units += [DrawnUnit(f"{caller}-{role}", role, caller) for caller in callers]
        else:
            units += [DrawnUnit(f"{role}-{number}", role, f"{role}-{number}") for number in (1, 2)]
    return units + [DrawnUnit(f"{name}-{number}", "model", name) for name in TABLE["clusters"] for number in (0, 1)]


def write_page(file: Path, topologies: Sequence[str], callers: Sequence[str]) -> str:
    """A page that shows load by each topology; returns its address."""
    units = units_of(topologies, callers)
    drawings = {name: Drawing(name, callers, units, TABLE).to_document() for name in topologies}
    verdict = {
        "final": True,
        "ok": 8,
        "failed": 0,
        "misrouted": 0,
        "torn": 0,
        "claims": {"correctness": "valid", "availability": "valid", "timing": "unknown"},
        "verdicts": [
            {"checker": f"checker-{number}", "claim": "correctness", "outcome": "valid", "summary": "all 8 are right"}
            | {"violations": {"count": 0, "first": []}}
            for number in range(18)
        ],
    }
    busy = {
        name: {edge: [2, 0, 0] for edge in list(drawing["edges"])[:12] if drawing["edges"][edge] == "payload"}
        for name, drawing in drawings.items()
    }
    shown: dict[str, dict[str, Any]] = {
        "drawing": drawings,
        "traffic": {
            f"{name}/{FIRST + number}": {"s": {"OK": 2}, "e": busy[name], "c": {}, "l": {"200": 2}, "w": {}, "x": []}
            for name in topologies
            for number in range(40)
        },
        "run": {
            name: {"topology": name, "caller": callers[0], "state": "judged", "dir": "runs"} for name in topologies
        },
        "verdict": dict.fromkeys(topologies, verdict),
        "revision": {"1": {"at_ns": START_NS}},
        "lab": {"name": "a"},
    }
    file.write_text(page_with(message(shown, [])))
    return file.as_uri()


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium() as page:
        yield page


def show(page: Page, address: str, width: int, height: int, *, dark: bool = False) -> None:
    page.open(address, width=width, dark=dark)
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
    eventually(
        "the page is drawn",
        lambda: page.evaluate("document.querySelectorAll('.place text').length"),
        within=timedelta(seconds=30),
    )


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_page(tmp_path_factory.mktemp("usual") / "page.html", ("gateway", "mesh"), list(SPEC.callers))


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1920, 1080)])
def test_the_drawings_are_in_view_wherever_the_page_is_scrolled(
    page: Page, usual: str, width: int, height: int
) -> None:
    show(page, usual, width, height)
    page.evaluate("document.querySelector('#verdicts details').open = true")
    for at in ("0", "document.body.scrollHeight"):
        page.evaluate(f"scrollTo(0, {at})")
        boxes = page.evaluate(
            "[...document.querySelectorAll('.stage')].map(each => each.getBoundingClientRect())"
            ".map(box => [box.top, box.bottom])"
        )
        assert len(boxes) == 2
        assert all(0 <= top < bottom <= height for top, bottom in boxes), boxes
    assert page.evaluate("scrollY") > 0


def test_on_a_phone_the_drawing_can_be_read_and_clusters_have_their_whole_names(page: Page, usual: str) -> None:
    show(page, usual, 390, 844)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    texts = page.evaluate(f"{TEXTS}.map(each => each.textContent)")
    assert set(TABLE["clusters"]) <= set(texts)
    assert min(page.evaluate(SIZES_OF_TEXTS)) >= LEAST_PX
    assert page.evaluate(STICKING_OUT) == []


@pytest.mark.parametrize(
    ("topologies", "callers"),
    [
        (("mesh",), list(SPEC.callers)),
        (tuple(TOPOLOGIES), list(SPEC.callers)),
        (("gateway", "mesh"), [f"caller-{number}" for number in range(30)]),
    ],
    ids=["one topology", "all topologies", "thirty callers"],
)
@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_any_lab_fits(
    page: Page, tmp_path: Path, topologies: Sequence[str], callers: Sequence[str], width: int
) -> None:
    show(page, write_page(tmp_path / "page.html", topologies, callers), width, 800)
    assert page.evaluate("document.querySelectorAll('[data-topology] svg[role=group]').length") == len(topologies)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert page.evaluate(STICKING_OUT) == []
    assert width < 1280 or min(page.evaluate(SIZES_OF_TEXTS)) >= SMALLEST_PX
    lines = page.evaluate(
        "[...document.querySelectorAll('#charts figure')].map(f => f.querySelectorAll('.line').length)"
    )
    assert max(lines) <= 5
    page.keep_picture(f"{len(topologies)}-by-{len(callers)}-{width}")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_axe_finds_nothing(page: Page, usual: str, width: int, *, dark: bool) -> None:
    show(page, usual, width, 800, dark=dark)
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert page.violations(*EVERY_IMPACT) == []


def test_the_units_of_a_place_are_offered_together_and_by_name(page: Page, usual: str) -> None:
    show(page, usual, 1280, 800)
    page.evaluate("document.querySelector('.place[aria-label^=\"gateway \"]').dispatchEvent(new MouseEvent('click'))")
    rows = page.evaluate("[...document.querySelectorAll('#unit .row b')].map(each => each.textContent)")
    assert rows == ["all 2 gateways", "gateway-1", "gateway-2"]
    titles = page.evaluate("[...document.querySelectorAll('#unit .row button')].map(each => each.title)")
    assert titles[0] == "lab fault inject kill gateway --name a"
    assert page.violations(*EVERY_IMPACT, within="#unit") == []


def test_the_filter_dims_what_it_does_not_ask_for_and_enter_goes_there(page: Page, usual: str) -> None:
    show(page, usual, 1280, 800)
    page.evaluate("document.querySelector('#filter').focus()")
    page.evaluate("document.querySelector('#filter').value = 'fraud'")
    bright = "[...document.querySelectorAll('[data-topology=mesh] .place')].filter(each => !each.style.opacity)"
    eventually(
        "one cluster serves fraud",
        lambda: page.evaluate(f"{bright}.map(each => each.querySelector('text').textContent)"),
        within=timedelta(seconds=10),
        until=lambda seen: bool(seen == ["ml-cluster-6"]),
    )
    page.press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("model ml-cluster-6")
