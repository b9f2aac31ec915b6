"""The text of published tables, from the lab's folder into a run's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lab.routing.document import Source
from lab.runs.folder import RunFolder
from lab.runs.published import keep_published, keep_rollback, keeps_text, kept_texts


def test_texts_are_kept_saved_and_read(tmp_path: Path) -> None:
    lab, run = tmp_path / "lab", RunFolder(tmp_path / "run")
    lab.mkdir()
    run.path.mkdir()
    keep_published(lab, 1, [Source("a.yaml", "models: {a: {}}"), Source("b.yaml", "clusters: {c: {}}")])
    keep_published(lab, 2, [("c.yaml", "models: {b: {}}")])
    keep_rollback(lab, 3, to=1)
    keep_rollback(lab, 5, to=4)  # whose text nobody kept

    run.published = kept_texts(lab, [1, 3, 4, 5])

    first: dict[str, Any] = {"use_cases": {}, "models": {"a": {}}, "clusters": {"c": {}}}
    assert run.published == {1: first, 3: first}


def test_a_lab_that_kept_nothing_and_a_run_without_the_file_have_no_text(tmp_path: Path) -> None:
    assert kept_texts(tmp_path, [1]) == {}
    assert RunFolder(tmp_path).published == {}


def test_only_a_change_of_single_use_cases_has_no_text(tmp_path: Path) -> None:
    assert keeps_text(tmp_path, 1)  # nothing was kept: that is for the checkers to say
    keep_published(tmp_path, 1, [("a.yaml", "models: {}")])
    assert keeps_text(tmp_path, 1)
    assert not keeps_text(tmp_path, 2)
