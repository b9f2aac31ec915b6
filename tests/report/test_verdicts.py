"""What checkers find, on the page and on the command line: all that there is to judge, and no list without an end."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from lab.checkers import CHECKERS
from lab.history import write_parquet
from lab.report import read_run, render
from lab.runs import judge
from lab.runs.folder import HISTORY, RunFolder
from tests.lab_command import run_lab
from tests.report.builders import make_record, make_revision, write_run

CHANGE = 200


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run in which everybody flaps between two versions, no copy arrives, and a change of rules is not heeded."""
    records = [
        make_record(
            number,
            version=("v1", "v2")[number // 3 % 2],
            routing_key="",
            tenant=f"t{number % 40}",
            topology="gateway",
        )
        for number in range(400)
    ]
    before = make_revision(1, loaded=1, converged=2)
    rule = {"name": "[bold]canary", "split": {"unit": "tenant", "weights": {"rows@v1": 100, "rows@v2": 0}}}
    before["document"] = copy.deepcopy(before["document"])
    before["document"]["use_cases"]["Rows"] |= {"rules": [rule], "shadow": {"use": "rows@v2", "percent": 50}}
    before["document"]["tenants"] = {"default": {"rate": 1000}}
    at = records[CHANGE].intended_ns
    after = make_revision(2, loaded=at, converged=at + 1)
    after["document"] = copy.deepcopy(before["document"])
    after["document"]["use_cases"]["Rows"]["rules"][0]["split"]["weights"] = {"rows@v1": 0, "rows@v2": 100}
    return write_run(tmp_path, records, topology="gateway", revisions=[before, after])


def test_every_verdict_is_on_the_page_with_its_first_violations(folder: Path) -> None:
    run = read_run(folder)

    html = render([run])

    judged = [verdict.checker for verdict in run.result.verdicts]
    always = {name for name, checker in CHECKERS.items() if not checker.subject}
    assert set(judged) >= always | {"churn", "shadow", "split", "staleness", "stickiness"}
    assert judged == [name for name in CHECKERS if name in judged]
    for verdict in run.result.verdicts:
        assert f'<td class="whole">{verdict.checker}</td>' in html
    long = [verdict for verdict in run.result.verdicts if len(verdict.violations) > 20]
    # Its plan asks for other requests, too.
    wrong = {"asked", "routing", "stickiness", "churn", "shadow", "staleness", "policy", "reported"}
    assert wrong >= {verdict.checker for verdict in long} > set()
    assert html.count("of which the first 20") == len(long)
    assert html.count("<li><b>#") == sum(min(20, len(verdict.violations)) for verdict in run.result.verdicts)
    assert "sigma" in html


def test_the_command_shows_some_violations_of_each_checker_and_says_how_many_more(folder: Path) -> None:
    done = run_lab(None, "check", folder)

    assert done.returncode == 1, done.stderr
    for verdict in read_run(folder).result.verdicts:
        lines = [line for line in done.stdout.splitlines() if line.startswith(f"  {verdict.checker} #")]
        assert min(10, len(verdict.violations)) == len(lines), verdict
        if len(verdict.violations) > 10:
            assert f"  {verdict.checker}: … and {len(verdict.violations) - 10} more; all are in --json" in done.stdout
    assert "rule [bold]canary of Rows" in done.stdout


def test_all_violations_are_in_the_document(folder: Path) -> None:
    done = run_lab(None, "check", folder, "--json")

    found = {each["checker"]: len(each["violations"]) for each in json.loads(done.stdout)["verdicts"]}
    assert found == {verdict.checker: len(verdict.violations) for verdict in read_run(folder).result.verdicts}


def test_a_report_judges_again_and_reads_no_verdict(folder: Path) -> None:
    run = RunFolder(folder)
    run.summary = judge(folder).to_document()
    before = read_run(folder).result
    summary = run.summary
    summary["verdict"], summary["verdicts"] = "valid", []
    run.summary = summary

    assert read_run(folder).result == before
    assert before.outcome == "invalid"

    write_parquet([make_record(number) for number in range(400)], folder / HISTORY)
    assert read_run(folder).result.verdicts != before.verdicts


def test_a_history_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(pyarrow.parquet, "ParquetFile", _counting(pyarrow.parquet.ParquetFile, read))

    read_run(folder)
    assert read == [folder / HISTORY, folder / RunFolder.arrivals.name]


def _counting(function: Callable[..., Any], read: list[Path]) -> Callable[..., Any]:
    def counting(path: Path, *arguments: Any, **options: Any) -> Any:
        read.append(path)
        return function(path, *arguments, **options)

    return counting
