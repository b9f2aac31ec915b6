"""What a run's folder tells of the copies that a shadow received."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lab.errors import RunError
from lab.runs.folder import COPIES
from lab.runs.judging import shadow_copies_in

if TYPE_CHECKING:
    from pathlib import Path


def test_without_the_file_nobody_asked(tmp_path: Path) -> None:
    assert shadow_copies_in(tmp_path) == (None, frozenset())


def test_ids_are_those_of_all_replicas_and_what_came_twice_is_told(tmp_path: Path) -> None:
    (tmp_path / COPIES).write_text(
        json.dumps({"cw-ranker.v3": ["r1", "r2", "r1"], "rows.v2": ["r2"], "up-next.v1": []})
    )

    copies, again = shadow_copies_in(tmp_path)

    assert copies == {
        "cw-ranker.v3": frozenset({"r1", "r2"}),
        "rows.v2": frozenset({"r2"}),
        "up-next.v1": frozenset(),
    }
    assert again == {"r1"}


@pytest.mark.parametrize("content", ["[]", '{"cw-ranker.v3": "r1"}', '{"cw-ranker.v3": [1]}', "{"])
def test_anything_else_is_a_run_error_that_names_the_file(tmp_path: Path, content: str) -> None:
    (tmp_path / COPIES).write_text(content)

    with pytest.raises(RunError, match=COPIES):
        shadow_copies_in(tmp_path)
