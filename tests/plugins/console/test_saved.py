"""Saved runs on the page: without a lab, at any moment, and as one file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.plugins.console import SavedRuns
from lab.plugins.console.traffic import TICK_NS
from lab.runs import judge
from lab.runs.events import Event
from tests.browser import Page, await_true, chromium
from tests.lab_command import run_lab
from tests.report.builders import MS, START_NS, make_record, make_revision, write_run

SECOND = 1_000 * MS
KILLED = START_NS + SECOND // 2
HEALED = START_NS + SECOND * 3 // 2
EVENTS = [
    Event(kind="kill", target="a-0", from_ns=KILLED, until_ns=KILLED, past="killed", undone_by="start"),
    Event(kind="start", target="a-0", from_ns=HEALED, until_ns=HEALED, past="started"),
]
REVISIONS = [
    make_revision(1, loaded=1, converged=2),
    make_revision(2, loaded=START_NS + SECOND, converged=START_NS + SECOND),
]
FAILED: dict[str, Any] = {"status": "UNAVAILABLE", "message": "routing key 'rows.v1': no healthy upstream"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two seconds: one second in which every other request fails behind the sidecar, and two revisions."""
    records = []
    for number in range(400):
        record = make_record(number)
        failed = KILLED <= record.sent_ns < HEALED and number % 2
        records.append(replace(make_record(number, **FAILED), routing_key="rows.v1") if failed else record)
    home = tmp_path_factory.mktemp("saved")
    return write_run(home, records, events=EVENTS, revisions=REVISIONS)


@pytest.fixture(scope="module")
def file(folder: Path) -> Path:
    done = run_lab(None, "console", folder, "--export", folder / "console.html")
    assert done.returncode == 0, done.stderr
    return folder / "console.html"


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium() as page:
        yield page


def documents(folder: Path) -> Any:
    return json.loads(SavedRuns(folder).board.everything())["set"]


def test_the_board_says_what_lab_check_says(folder: Path) -> None:
    [verdict] = documents(folder)["verdict"].values()
    checked = judge(folder).to_document()

    assert verdict["final"]
    assert {each["checker"]: (each["outcome"], each["violations"]["count"]) for each in verdict["verdicts"]} == {
        each["checker"]: (each["outcome"], len(each["violations"])) for each in checked["verdicts"]
    }
    assert [verdict[name] for name in ("ok", "failed", "p99_ms")] == [checked[n] for n in ("ok", "failed", "p99_ms")]


def test_no_request_is_lost_between_history_and_page(folder: Path) -> None:
    statuses = [interval["s"] for interval in documents(folder)["traffic"].values()]

    assert sum(each.get("OK", 0) for each in statuses) == 300
    assert sum(each.get("UNAVAILABLE", 0) for each in statuses) == 100


def test_a_file_of_its_own_shows_each_moment_again(file: Path, page: Page) -> None:
    page.complaints.clear()
    page.requested.clear()
    page.resize(1280)
    page.call("Page.navigate", url=file.as_uri())
    await_true(page, "!!document.querySelector('[data-topology=mesh] .stage svg')")

    go_to(page, HEALED + SECOND // 2)
    assert page.evaluate("document.querySelectorAll('.place.down, .place.part').length") == 0
    go_to(page, KILLED + SECOND // 4)
    await_true(page, "document.querySelectorAll('.edge.bad').length === 1")
    assert page.evaluate("[...document.querySelectorAll('.fault')].map(each => each.dataset.fault)") == ["a-0 killed"]
    assert page.evaluate("[...document.querySelectorAll('.band')].map(each => each.dataset.revision)") == ["1", "2"]

    assert page.violations("serious", "critical") == []
    assert page.complaints == []
    assert set(page.requested) == {file.as_uri()}


def go_to(page: Page, at_ns: int) -> None:
    script = f"scrubber.value = {at_ns // TICK_NS}; scrubber.dispatchEvent(new Event('input'))"
    page.evaluate(script)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["console", "nowhere"], "there is no run"),
        (["console", "--export", "x.html"], "--export: is for a saved run"),
        (["console", ".", "--control"], "--control: a saved run cannot be changed"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], says: str) -> None:
    done = run_lab(None, *arguments)

    assert done.returncode == 1
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
