"""A file that is no checker is refused in one line, which says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.errors import InputError
from lab.runs import load_checker

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no such file"),
        ("", "write NAME"),
        ("NAME = 'tear'\n\ndef check(evidence): ...\n", "'tear' is the name of one of the lab's own"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_that_is_no_checker_is_refused(tmp_path: Path, text: str | None, words: str) -> None:
    file = tmp_path / "own.py"
    if text is not None:
        file.write_text(text)

    with pytest.raises(InputError) as refusal:
        load_checker(file)

    assert str(refusal.value).startswith(f"--checker: {file}: ")
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_of_another_name_is_told_how_to_end(tmp_path: Path) -> None:
    file = tmp_path / "own.txt"
    file.write_text("")

    with pytest.raises(InputError, match=r"must end in \.py"):
        load_checker(file)
