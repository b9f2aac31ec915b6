"""Trials of planted bugs that a file keeps, so that an interrupted run goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lab.errors import LabError
from tests.mutants import __main__ as planting
from tests.mutants.catalogue import catalogue

BUGS = catalogue()[:3]


def test_trials_of_this_commit_and_of_unchanged_bugs_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "trials"
    first, second, third = (planting.Caught(bug, by="routing: 3", took_s=2.5) for bug in BUGS)
    planting.keep(file, first)
    planting.keep(file, replace(second, mutant=replace(second.mutant, replace="something else")))
    monkeypatch.setattr(planting, "_commit", lambda: ("another", "2026-01-01"))
    planting.keep(file, third)
    monkeypatch.undo()

    assert planting.kept_in(file, BUGS) == {first.mutant: first}
    assert planting.kept_in(tmp_path / "absent", BUGS) == {}
    assert planting.kept_in(None, BUGS) == {}


def test_what_is_no_trial_is_named(tmp_path: Path) -> None:
    (tmp_path / "trials").write_text("\nnoise")

    with pytest.raises(LabError, match="trials:1: is no trial"):
        planting.kept_in(tmp_path / "trials", BUGS)
