"""Each guard is needed: without it, an attack that it refuses succeeds."""

from __future__ import annotations

import ast
import re

import pytest

from lab import CHECKOUT
from tests.negative.cases import CASES
from tests.negative.guards import Guard, guard_of, guards, without
from tests.negative.test_refusals import rows

named = pytest.mark.parametrize("guard", guards(), ids=lambda guard: guard.name)


def test_each_attack_has_one_guard() -> None:
    assert {guard_of(case).name for case in CASES} == {guard.name for guard in guards()}


@named
def test_a_guard_can_be_taken_away(guard: Guard) -> None:
    assert bool(guard.why) != bool(guard.edits or guard.security == "plaintext")
    for edit in guard.edits:
        [(file, text)] = edit.mutated(CHECKOUT).items()
        assert text != (CHECKOUT / file).read_text()
        if file.endswith(".py"):
            ast.parse(text)


@named
def test_the_page_has_an_attack_that_succeeds_without_it(guard: Guard) -> None:
    cells = [line.split(" | ") for line in rows()]
    its = [row for row in cells if row[-2] == guard.name]

    assert len(its) == len(guard.its_cases()), "run: make refusals-page"
    assert guard.why or [row for row in its if re.search(guard.succeeds, row[-1])]


def test_the_page_has_enough_rows() -> None:
    assert len(rows()) >= 120


@pytest.mark.parametrize("guard", [each for each in guards() if each.in_suite], ids=lambda guard: guard.name)
def test_an_attack_succeeds_without_its_guard(guard: Guard) -> None:
    found = without(guard)

    assert [case.name for case in guard.its_cases() if guard.is_needed_for(case, found[case.name].answer)], found
