"""The text of published tables, from the lab's folder into a run's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab.errors import RunError
from lab.routing.document import Source
from lab.runs.published import keep_published, keep_rollback, published_in, save_published


def test_texts_are_kept_saved_and_read(tmp_path: Path) -> None:
    lab, run = tmp_path / "lab", tmp_path / "run"
    lab.mkdir()
    run.mkdir()
    keep_published(lab, 1, [Source("a.yaml", "models: {a: {}}"), Source("b.yaml", "clusters: {c: {}}")])
    keep_published(lab, 2, [("c.yaml", "models: {b: {}}")])
    keep_rollback(lab, 3, to=1)
    keep_rollback(lab, 5, to=4)  # whose text nobody kept

    save_published(run, lab, [1, 3, 4, 5])

    first: dict[str, Any] = {"use_cases": {}, "models": {"a": {}}, "clusters": {"c": {}}}
    assert published_in(run) == {1: first, 3: first}


def test_nothing_known_leaves_no_file(tmp_path: Path) -> None:
    save_published(tmp_path, tmp_path, [1])
    assert list(tmp_path.iterdir()) == []
    assert published_in(tmp_path) == {}


@pytest.mark.parametrize("text", ["[]", '{"one": []}', '{"1": [["a"]]}', '{"1": [["a", "- b"]]}'])
def test_anything_else_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "published.json").write_text(text)
    with pytest.raises(RunError, match=r"published.json: no texts of route tables"):
        published_in(tmp_path)
