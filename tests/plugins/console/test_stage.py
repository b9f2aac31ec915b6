"""The page says which revision is in force for which callers while one is staged, and ends the stage."""

from __future__ import annotations

from pathlib import Path

from lab.lab import Lab
from lab.plugins.console import Watcher
from lab.plugins.console.traffic import TICK_NS
from lab.runs import LoadOptions
from tests.browser import Page, await_true, chromium
from tests.labs import TWO_CALLERS_ROUTES, TWO_CALLERS_SPEC, lab_up, write_spec
from tests.plugins.console.builders import serving
from tests.plugins.console.test_browser import band, open_page, press

SAID = "document.querySelector('#staged:not([hidden])')?.textContent"
MARKED = (
    "[...document.querySelectorAll('[data-topology=mesh] .place.staged')].map(each => each.getAttribute('aria-label'))"
)
MARKS = "[...document.querySelectorAll('[data-topology=mesh] .place .revision')].map(each => each.textContent)"
VERSIONS = "document.querySelector('[data-topology=mesh] .place[aria-label*=ml-cluster-2] title').textContent"
BARS = "[...document.querySelectorAll('.staging + text')].map(each => each.textContent)"


def test_a_stage_is_a_line_a_mark_at_its_callers_and_a_bar_until_it_is_taken_back(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, TWO_CALLERS_SPEC.replace('"gateway-header", ', ""), TWO_CALLERS_ROUTES)
    staged = tmp_path / "staged.yaml"
    staged.write_text(
        TWO_CALLERS_ROUTES.replace("default: search-ranker@v1", "default: search-ranker@v2").replace(
            "v1: {cluster: ml-cluster-2}", "v1: {cluster: ml-cluster-2}, v2: {cluster: ml-cluster-2}"
        )
    )
    with chromium() as page, lab_up(tmp_path, spec=spec) as lab:
        watcher = Watcher(lab)
        watcher.start()
        try:
            with serving(watcher.board, lab, watcher) as console:
                door = tmp_path / "console.html"
                console.write_door(door)
                open_page(page, door.as_uri())
                assert page.evaluate(SAID) is None
                before, stage = lab.routes.show().revision, lab.routes.publish(staged, callers=["search"])
                lab.load(LoadOptions(topology="mesh", caller="search", rate=20, duration_s=2))
                _assert_shown(page, before, stage)
                press(page, f"Take back revision {stage}")
                await_true(page, f"{SAID} === undefined")
                await_true(page, f"{MARKED}.length === 0 && {MARKS}.join() === ''")
                assert not page.evaluate(band(stage)), "it was never in force for all"
                assert page.evaluate("document.querySelector('#log code').textContent").startswith(
                    "lab routes rollback"
                )
                _assert_shown_of_the_past(page, lab, before, stage)
                assert page.complaints == []
        finally:
            watcher.stop()


def _assert_shown(page: Page, before: int, stage: int) -> None:
    await_true(
        page,
        f"{SAID}?.startsWith('Revision {stage} is staged for search; revision {before} is in force for homepage.')",
    )
    assert "lab routes rollback" in page.evaluate(SAID)
    assert page.evaluate(MARKED) == [f"caller search, by revision {stage}: search running"]
    assert page.evaluate(MARKS) == [f"rev {stage}"]
    await_true(page, f"{VERSIONS}.includes('search-ranker.v1\\nsearch-ranker.v2')")
    await_true(page, f"{BARS}.join() === 'revision {stage} for search'")
    assert f"revision {before} · " in page.evaluate("document.querySelector('#about').textContent")
    for width in (390, 1280):
        page.resize(width)
        narrow = "document.querySelector('[data-topology=mesh] svg.narrow')"
        await_true(page, f"!!{narrow} === {str(width == 390).lower()} && {MARKS}.join() === 'rev {stage}'")
        assert page.overflowing() == []
        page.keep_picture(f"stage-{width}")
        assert page.violations("minor", "moderate", "serious", "critical") == []


def _assert_shown_of_the_past(page: Page, lab: Lab, before: int, stage: int) -> None:
    during = next(each for each in lab.routes.history() if each.revision == stage).times["converged"] // TICK_NS + 1
    page.evaluate(f"scrubber.value = {during}; scrubber.dispatchEvent(new Event('input'))")
    await_true(
        page, f"{SAID} === 'Revision {stage} was staged for search; revision {before} was in force for homepage.'"
    )
