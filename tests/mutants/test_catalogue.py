"""Every planted bug can be planted: its place in the code is there, once, and every name in the code with it exists."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.catalogue import CHECKOUT, Mutant, catalogue
from tests.mutants.drill import DRILLS

ALL = catalogue()
_RUFF = (Path(sys.executable).with_name("ruff"), "check", "--isolated", "--quiet", "--select", "E9,F821,F822,F823", "-")


def undefined(code: str) -> str:
    """What cannot be compiled in this code, and the names in it that nothing defines."""
    return subprocess.run(_RUFF, input=code, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("mutant", ALL, ids=lambda each: f"{each.kind}: {each.name}")
def test_a_bug_can_be_planted(mutant: Mutant) -> None:
    assert mutant.mutated(CHECKOUT) != (CHECKOUT / mutant.file).read_text()
    assert undefined(mutant.mutated(CHECKOUT)) == ""
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


def test_a_text_that_no_bug_has_is_refused() -> None:
    command = [sys.executable, "-m", "tests.mutants", "none", "like", "this"]
    tried = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert (tried.returncode, tried.stdout) == (2, "")
    assert "no bug has 'none like this' in 'CLASS: NAME'" in tried.stderr
