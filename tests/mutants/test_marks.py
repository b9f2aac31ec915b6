"""Marks show which changed statements ran."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.marks import marked

CODE = """\
from __future__ import annotations

def f(x):
    \"\"\"Counts.\"\"\"
    if x == 1:
        y = 1
    elif x == 2:
        y = 2  # here
    else:
        y = (
            3
        )
    return y

class A:
    @property
    def name(self):
        return "a"
"""


@pytest.mark.parametrize(
    ("changed", "run", "is_met"),
    [
        ("y = 2  # here", "f(2)", True),
        ("y = 2  # here", "f(1)", False),
        ("x == 2", "f(1)", True),  # the whole chain is one statement
        ("            3", "f(3)", True),
        ("            3", "f(2)", False),
        ('return "a"', "A().name", True),
        ('return "a"', "A()", False),
        ("@property", "", True),  # when the module is imported
    ],
)
def test_a_mark_is_left_when_the_changed_statement_runs(
    changed: str, run: str, *, is_met: bool, tmp_path: Path
) -> None:
    text = marked(CODE, CODE.index(changed), tmp_path / "mark")

    assert text is not None
    exec(compile(f"{text}\n{run}\n", "code", "exec"), {})  # noqa: S102 (the code above)
    assert (tmp_path / "mark").exists() == is_met


@pytest.mark.parametrize("text", ["static_resources: {a: }\n", "local x = 1\n", '"""Only words."""\n'])
def test_where_nothing_can_be_marked_there_is_no_mark(text: str, tmp_path: Path) -> None:
    assert marked(text, 0, tmp_path / "mark") is None
