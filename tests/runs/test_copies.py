"""The copies that a shadow received, read from a run's folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.errors import RunError
from lab.runs.folder import RunFolder

COPIES = RunFolder.copies.name


def test_without_the_file_nobody_asked(tmp_path: Path) -> None:
    assert RunFolder(tmp_path).copies is None


def test_copies_have_an_id_and_a_receipt_by_routing_key_and_older_files_no_receipt(tmp_path: Path) -> None:
    (tmp_path / COPIES).write_text(json.dumps({"rows.v3": [["r1", "ab"], ["r1", "cd"]], "rows.v2": ["r2"], "x.v1": []}))

    assert RunFolder(tmp_path).copies == {"rows.v3": [("r1", "ab"), ("r1", "cd")], "rows.v2": [("r2", "")], "x.v1": []}


@pytest.mark.parametrize(
    "content",
    ["[]", '{"cw-ranker.v3": "r1"}', '{"cw-ranker.v3": [1]}', '{"rows.v3": [["r1"]]}', "{"],
)
def test_anything_else_is_a_run_error_that_names_the_file(tmp_path: Path, content: str) -> None:
    (tmp_path / COPIES).write_text(content)

    with pytest.raises(RunError, match=COPIES):
        _ = RunFolder(tmp_path).copies
