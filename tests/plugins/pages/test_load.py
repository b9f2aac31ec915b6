"""Pages of a lab: driven, judged, shown as a tree, stopped by Ctrl-C, and refused to callers with no part in them."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.lab import Lab
from lab.plugins.console import SavedRuns
from lab.spec import SIZES
from tests.browser import await_true, chromium
from tests.lab_command import await_line, json_of, refusal, run_lab, start_lab
from tests.labs import lab_up, write_spec
from tests.plugins.console.builders import serving
from tests.plugins.console.test_browser import open_page
from tests.plugins.pages.asking import error_of

PAGES = ("--page", "homepage", "--topology", "mesh")
# Of twelve calls, each caller's.
CALLS = {"homepage": 2, "recommendations": 3, "playback": 3, "search": 4}


def names(steps: list[dict[str, Any]]) -> list[str]:
    return [each["name"] for each in steps]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The lab whose pages are three callers deep."""
    with lab_up(tmp_path_factory.mktemp("pages"), spec=SIZES["pages"], topologies=["mesh"], security="mtls") as lab:
        yield lab


def test_every_page_and_every_call_of_it_is_judged_and_one_is_shown_as_a_tree(lab: Lab) -> None:
    driven = json_of(run_lab(lab, "load", *PAGES, "--rate", "20", "--duration", "3", "--cancel-every", "6", "--json"))

    assert driven["verdict"] == "valid"
    runs = {run["run_dir"].rpartition("mesh-")[2]: run for run in driven["runs"]}
    assert runs.keys() == CALLS.keys()
    [page] = [each for each in runs["homepage"]["verdicts"] if each["checker"] == "page"]
    planned = int(page["summary"].split()[0])
    answered = planned - planned // 6
    for caller, run in runs.items():
        assert answered * CALLS[caller] <= run["planned"] <= planned * CALLS[caller]
        assert run["offered"] is None
    slowest = json_of(run_lab(lab, "page", "--json"))
    steps = slowest["steps"]
    assert [each["name"] for each in steps] == ["HomepageRows", "ContinueWatchingRanking", "recommendations", "search"]
    assert [each["name"] for each in steps[2]["steps"]] == [
        "SimilarTitles",
        "SimilarTitles",
        "playback",
        "SimilarTitles",
    ]
    assert [each["name"] for each in steps[2]["steps"][2]["steps"]] == ["UpNext"] * 3
    assert 0 < steps[2]["took_ms"] <= slowest["took_ms"]
    assert json_of(run_lab(lab, "page", steps[2]["steps"][2]["steps"][0]["id"], "--json")) == slowest
    saved = SavedRuns((lab.runs / "latest").resolve())  # on the console
    innermost = saved.story(steps[2]["steps"][2]["steps"][0]["id"])
    assert (innermost["request"]["use_case"], innermost["tree"]) == ("UpNext", slowest)
    assert saved.story(slowest["id"]) == {"tree": slowest}
    shown = run_lab(lab, "page", slowest["id"]).stdout
    assert "    * UpNext" in shown or "    UpNext" in shown
    assert "is not in" in refusal(run_lab(lab, "page", "1f3a90c2-00000000"))


TREE = "[...document.querySelectorAll('#tree tbody th')].map(each => each.textContent.replace('* ', ''))"


def test_the_console_shows_a_page_whose_calls_open_their_stories(lab: Lab, tmp_path: Path) -> None:
    run_lab(lab, "load", "--page", "homepage", "--topology", "mesh", "--rate", "5", "--duration", "2")
    shown = json_of(run_lab(lab, "page", "--json"))
    saved = SavedRuns((lab.runs / "latest").resolve())

    with serving(saved.board, watcher=saved) as console, chromium() as page:
        console.write_door(tmp_path / "console.html")
        open_page(page, (tmp_path / "console.html").as_uri())
        page.evaluate(f"document.querySelector('#find input').value = '{shown['id']}'")
        page.evaluate("document.querySelector('#find button').click()")
        await_true(page, "document.querySelector('#request').open")

        tree = page.evaluate(TREE)
        assert tree[:2] == names(shown["steps"][:2])
        assert len(tree) == 15  # twelve calls, and three parts of the page
        assert tree.count("UpNext") == 3
        page.evaluate("document.querySelector('#tree [data-step]').click()")
        await_true(page, "document.querySelector('#request-title').textContent.startsWith('Request')")
        assert page.evaluate(TREE) == tree
        assert "asked for HomepageRows" in page.evaluate("document.querySelector('#request').textContent")
        assert page.violations("minor", "moderate", "serious", "critical") == []
        assert page.complaints == []


def test_ctrl_c_keeps_what_was_built_and_judges_it(lab: Lab) -> None:
    load = start_lab(lab, "load", "--page", "homepage", "--topology", "mesh", "--rate", "20", "--duration", "100")
    next(line for line in iter(load.stderr.readline, "") if re.search(r"\d{3,} done", line))  # type: ignore[union-attr]

    load.send_signal(signal.SIGINT)
    output, _ = load.communicate(timeout=60)

    assert "all together: valid" in output, output
    assert "not sent" in output


def test_ctrl_c_before_the_first_page_ends_the_run_soon(lab: Lab) -> None:
    load = start_lab(lab, "load", "--page", "homepage", "--topology", "mesh", "--rate", "20", "--duration", "100")
    await_line(load, "done")  # none yet
    load.send_signal(signal.SIGINT)
    output, errors = load.communicate(timeout=60)
    assert "Traceback" not in output + errors


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--page", "nobody"], "--page: 'nobody' is not a caller of this lab; there are homepage, recommendations"),
        (["--cancel-every", "3"], "--page: name the caller whose pages to ask for"),
        (["--page", "homepage", "--engine", "open-loop"], "--page: is for --engine pages, not for open-loop"),
    ],
)
def test_options_that_do_not_fit_are_one_line(lab: Lab, options: list[str], problem: str) -> None:
    assert problem in refusal(run_lab(lab, "load", *options), status=3)


def test_a_run_without_pages_has_none_to_show(lab: Lab, tmp_path: Path) -> None:
    assert "there is no run" in refusal(run_lab(lab, "page", "--run", tmp_path))
    run_lab(lab, "load", "--topology", "mesh", "--rate", "20", "--duration", "1", "--caller", "search")
    assert "has no pages; `lab load --page CALLER`" in refusal(run_lab(lab, "page"))


def test_only_callers_of_whose_pages_it_is_a_part_may_ask_for_a_callers_page(lab: Lab) -> None:
    def asked_by(name: str, *, of: str) -> str:
        error = error_of(lab, name, of=of)
        return str(error.code().name) if error else "OK"

    assert {of: asked_by("recommendations", of=of) for of in CALLS} == {
        "homepage": "PERMISSION_DENIED",
        "recommendations": "OK",
        "playback": "OK",
        "search": "PERMISSION_DENIED",
    }
    assert asked_by("homepage", of="playback") == "OK"  # by recommendations
    assert asked_by("playback-resolver", of="playback") == "PERMISSION_DENIED"


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ('[["UpNext", "search"]]', "the page of homepage contains itself: homepage → search → homepage"),
        ('[["no_such"]]', "page"),
    ],
)
def test_a_page_that_contains_itself_is_refused_by_line(tmp_path: Path, page: str, problem: str) -> None:
    spec = f'[callers.homepage]\npage = {page}\n[callers.search]\npage = [["homepage"]]\n'
    result = run_lab(None, "up", "--spec", write_spec(tmp_path, spec))
    assert problem in refusal(result)
    assert "mini.toml:" in result.stderr


def test_the_journal_of_a_run_is_in_its_callers_folder(lab: Lab) -> None:
    before = set((lab.folder / "units").glob("*/pages-*.jsonl"))

    json_of(run_lab(lab, "load", *PAGES, "--rate", "5", "--duration", "2", "--json"))

    journals = set((lab.folder / "units").glob("*/pages-*.jsonl")) - before
    assert {each.parent.name for each in journals} == CALLS.keys()
    for each in journals:
        assert json.loads(each.read_text().splitlines()[-1]) == {"end": True}
