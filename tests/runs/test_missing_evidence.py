"""Evidence that could not be saved when a run ended."""

from __future__ import annotations

from pathlib import Path

from lab.checkers import Claim, Outcome
from lab.report.run import read_runs
from lab.runs import judge
from lab.runs.folder import RunFolder
from tests.report.builders import make_record, write_run

WHY = "the control plane at 127.0.0.1:1 does not answer (refused); see `lab status`"


def test_a_run_without_its_revisions_is_valid_in_nothing_but_timing_and_says_why(tmp_path: Path) -> None:
    folder = write_run(tmp_path, [make_record(each) for each in range(20)])
    complete = judge(folder)
    assert complete.missing == ""
    RunFolder(folder).missing = {"revisions.json": WHY}

    result = judge(folder)

    assert result.missing == f"revisions.json could not be saved: {WHY}"
    of_tables = [each for each in result.verdicts if each.checker in ("answered", "routing")]
    assert [(each.outcome, each.summary) for each in of_tables] == [(Outcome.UNKNOWN, result.missing)] * 2
    assert Outcome.VALID not in {each.outcome for each in result.verdicts if each.claim is not Claim.TIMING}
    assert result.met == {}
    assert read_runs([folder])
