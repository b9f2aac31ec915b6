"""``lab check --checker FILE``: a file that adds no checker is refused in one line."""

from pathlib import Path

import pytest

from docs.examples import patience
from lab.cli.check import add_checker
from lab.errors import InputError
from lab.registry import PLUGINS

TEAR = """
from lab.checkers import Checker

CHECKER = Checker(name="tear", question="Is this name free?", check=lambda evidence: None)
"""
MOST_LINES = 60


@pytest.fixture(autouse=True)
def without_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLUGINS, "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "{file}: not a Python file; name one for --plugin"),
        ("", "--checker: {file}: defines no new Checker; see docs/extending/checker.md"),
        (TEAR, "checker 'tear' from outside has the name of one of the lab's; rename it"),
        ("1 / 0", "{file}:1: ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_that_adds_no_checker_is_refused_in_one_line(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "own.py"
    if text is not None:
        file.write_text(text)

    with pytest.raises(InputError) as refusal:
        add_checker(file)

    assert str(refusal.value) == message.format(file=file)


def test_a_file_of_another_type_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.txt"
    file.write_text("")

    with pytest.raises(InputError, match=r"own\.txt: not a Python file"):
        add_checker(file)


def test_one_file_of_at_most_60_lines_is_enough() -> None:
    assert len(Path(patience.__file__).read_text().splitlines()) <= MOST_LINES
