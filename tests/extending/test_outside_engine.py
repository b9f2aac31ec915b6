"""One file outside the project adds a load engine, with an option that chooses it."""

from __future__ import annotations

import json
import signal
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from docs.examples import closed_loop
from lab.errors import InputError
from lab.history import Record, read_parquet
from lab.lab import Lab
from lab.load.engines import ENGINES
from lab.load.plan import EnginePlan
from lab.registry import PLUGINS
from lab.runs import LoadOptions, judge
from tests.lab_command import await_line, json_of, refusal, run_lab, start_lab

NAME, FILE = closed_loop.NAME, closed_loop.__file__


@pytest.fixture(scope="module")
def lab(two_callers_lab: Lab) -> Lab:
    """A small lab."""
    return two_callers_lab


def at_once(records: list[Record]) -> int:
    """The most requests that were in flight together."""
    changes = sorted([(each.sent_ns, 1) for each in records] + [(each.done_ns, -1) for each in records])
    most = now = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


def test_its_option_chooses_it_and_its_run_is_judged_by_what_its_plan_says(lab: Lab) -> None:
    options = ("--topology", "mesh", "--people", "3", "--duration", "2", "--plugin", FILE, "--json")

    figures = json_of(run_lab(lab, "load", *options))

    assert figures["offered"] is None
    assert figures["planned"] == figures["ok"] > 20
    assert (figures["missing"], figures["misrouted"], figures["torn"]) == (0, 0, 0)
    verdicts = {each["checker"]: each for each in figures["verdicts"]}
    assert "closed loop (users wait for answers)" in verdicts["driver"]["summary"]
    assert "asked" not in verdicts
    folder = Path(figures["run_dir"])
    records = sorted(read_parquet(folder / "history.parquet"), key=lambda each: each.sequence)
    assert [each.sequence for each in records] == list(range(len(records)))
    assert at_once(records) == 3
    assert all(before.sent_ns <= after.sent_ns for before, after in pairwise(records))
    assert Counter(each.topology for each in records).keys() == {"mesh"}

    # Judging and reporting need no plug-in.
    plan: dict[str, Any] = json.loads((folder / "plan.json").read_text())["engine"]
    assert (plan["name"], plan["settings"]) == (NAME, {"people": 3})
    assert NAME not in ENGINES
    assert str(judge(folder).outcome) == figures["verdict"]
    assert run_lab(lab, "report", str(folder)).returncode == 0
    assert f"{NAME}, closed loop: users wait for answers" in (folder / "report.html").read_text()


def test_ctrl_c_ends_it_and_what_it_sent_is_judged(lab: Lab) -> None:
    run = start_lab(lab, "load", "--engine", NAME, "--duration", "100", "--plugin", FILE)
    await_line(run, "done")

    run.send_signal(signal.SIGINT)
    output, errors = run.communicate(timeout=60)

    assert run.returncode in {0, 2}, errors
    assert "closed loop" in output
    result = judge((lab.runs / "latest").resolve())
    assert result.summary.planned == sum(result.summary.by_status.values()) > 0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--engine", NAME, "--drivers", "2"], f"drivers: not for engine {NAME}"),
        (["--people", "0"], "--people"),
        (["--people", "2", "--caller", "homepage,search"], f"{NAME} drives one caller at a time"),
        (["--people", "2", "--find-knee"], "--find-knee"),
        (["--people", "2", "--engine", "open-loop"], f"--people: is for --engine {NAME}, not for open-loop"),
        (["--people", "2", "--workers", "2"], "is for --engine"),
    ],
)
def test_what_it_cannot_is_refused_in_a_line(lab: Lab, options: list[str], why: str) -> None:
    assert why in refusal(run_lab(lab, "load", *options, "--plugin", FILE), status=3)


def test_its_files_cannot_replace_evidence(lab: Lab, tmp_path: Path) -> None:
    before = sorted(lab.runs.glob("*"))
    engine = EnginePlan(name=NAME, closed_loop=True, files={"plan.json": tmp_path / "mine.json"})

    with pytest.raises(InputError, match=r"plan\.json is a file of every run"):
        lab.load(LoadOptions(topology="mesh", caller="homepage", engine=engine))

    assert sorted(lab.runs.glob("*")) == before


def test_help_has_its_options_in_a_panel() -> None:
    shown = run_lab(None, "--plugin", FILE, "load", "--help").stdout
    assert f"Engine {NAME}; each of these chooses it" in shown
    assert closed_loop.ENGINE.summary in " ".join(shown.split())


def test_an_option_that_every_engine_has_is_refused(tmp_path: Path) -> None:
    taken = tmp_path / "taken.py"
    taken.write_text(Path(FILE).read_text().replace('name="people"', 'name="rate"'))

    assert f"engine {NAME}: --rate is an option of every engine" in refusal(
        run_lab(None, "load", "--plugin", taken), status=3
    )


def test_an_engine_that_is_not_known_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=f"engine '{NAME}' is not known"):
        ENGINES[NAME]
    monkeypatch.setenv(PLUGINS, FILE)
    assert ENGINES[NAME].summary == closed_loop.ENGINE.summary
