"""Every planted bug can be planted: its place in the code is there, once, and every name in the code with it exists."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.mutants.catalogue import CHECKOUT, Edit, Mutant, catalogue
from tests.mutants.drill import DRILLS
from tests.mutants.marks import marked

ALL = catalogue()
_RUFF = (Path(sys.executable).with_name("ruff"), "check", "--isolated", "--quiet", "--select", "E9,F821,F822,F823", "-")


def undefined(code: str) -> str:
    """What cannot be compiled in this code, and the names in it that nothing defines."""
    return subprocess.run(_RUFF, input=code, capture_output=True, text=True, check=False).stdout


@cache
def undefined_in_all() -> dict[str, str]:
    """The same of every bug, by the name of a file with it: one process in place of hundreds."""
    with TemporaryDirectory() as folder:
        for number, mutant in enumerate(ALL):
            with suppress(ValueError):
                for each, text in enumerate(_marked(mutant)):
                    (Path(folder) / f"{number}-{each}.py").write_text(text)
        command = (*_RUFF[:-1], "--output-format", "concise", folder)
        lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return {Path(line.partition(":")[0]).stem.partition("-")[0]: line for line in lines}


def _marked(mutant: Mutant) -> Iterator[str]:
    """The Python files that a bug changes, with each of its marks."""
    for file, (text, places) in mutant.planted(CHECKOUT).items():
        if file.endswith(".py"):
            yield from (marked(text, place, Path("/mark")) or text for place in places)


@pytest.mark.parametrize("mutant", ALL, ids=lambda each: f"{each.kind}: {each.name}")
def test_a_bug_can_be_planted(mutant: Mutant) -> None:
    for file, (text, places) in mutant.planted(CHECKOUT).items():
        assert text != (CHECKOUT / file).read_text()
        if file.endswith(".py"):
            marks = [marked(text, place, Path("/mark")) for place in places]
            assert None not in marks, "no statement there can be marked"
    assert undefined_in_all().get(str(ALL.index(mutant)), "") == ""
    assert mutant.drill in DRILLS


def test_a_bug_with_a_name_that_nothing_defines_is_noticed() -> None:
    assert "F821" in undefined("def f():\n    return items\n")
    assert undefined("def f(:\n") != ""


def test_there_are_at_least_sixty_and_each_has_its_own_name() -> None:
    assert len({(each.kind, each.name) for each in ALL}) == len(ALL)
    assert len(ALL) >= 60


def test_a_bug_whose_place_has_changed_is_named() -> None:
    moved = Mutant(name="gone", kind="content", file="lab/spec.py", find="no such text", replace="")
    with pytest.raises(ValueError, match=r"content: gone: lab/spec.py has the text 0 times, not once"):
        moved.mutated(CHECKOUT)


def test_several_changes_of_one_file_are_made_and_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\ny = 2\nz = 3\n")
    edits = [
        Edit(file="a.py", find=find, replace=replace)
        for find, replace in (("z = 3", "z = 33"), ("x = 1", "x = 0\nw = 1"))
    ]
    both = Mutant(name="both", kind="content", edits=tuple(edits))

    [(text, places)] = both.planted(tmp_path).values()

    assert text == "x = 0\nw = 1\ny = 2\nz = 33\n"
    assert [text[place : place + 4] for place in places] == ["z = 3"[:4], "x = "]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none", "like", "this"], "no bug has 'none like this' in 'CLASS: NAME'"),
        (["--shard", "5/4"], "--shard: '5/4' is not K/N with K from 1 to N"),
        (["--shard", "1/2", "--page"], "--page is of all bugs: leave text and --shard out"),
    ],
)
def test_what_cannot_be_tried_is_refused(arguments: list[str], message: str) -> None:
    command = [sys.executable, "-m", "tests.mutants", *arguments]
    tried = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert (tried.returncode, tried.stdout) == (2, "")
    assert message in tried.stderr
