"""Every planted bug can be planted: its place in the code is there, once, and the code with it can be compiled."""

from __future__ import annotations

import ast

import pytest

from tests.mutants.catalogue import CHECKOUT, Mutant, catalogue
from tests.mutants.drill import DRILLS

ALL = catalogue()


@pytest.mark.parametrize("mutant", ALL, ids=lambda each: f"{each.kind}: {each.name}")
def test_a_bug_can_be_planted(mutant: Mutant) -> None:
    assert mutant.mutated(CHECKOUT) != (CHECKOUT / mutant.file).read_text()
    ast.parse(mutant.mutated(CHECKOUT))
    assert mutant.drill in DRILLS


def test_there_are_at_least_sixty_and_each_has_its_own_name() -> None:
    assert len({(each.kind, each.name) for each in ALL}) == len(ALL)
    assert len(ALL) >= 60


def test_a_bug_whose_place_has_changed_is_named() -> None:
    moved = Mutant(name="gone", kind="content", file="lab/spec.py", find="no such text", replace="")
    with pytest.raises(ValueError, match=r"content: gone: lab/spec.py has the text 0 times, not once"):
        moved.mutated(CHECKOUT)
