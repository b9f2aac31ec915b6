"""Each attack has its guard: without it, and those behind it, the attack succeeds."""

from __future__ import annotations

import ast
import re

import pytest

from lab import CHECKOUT
from tests.negative.cases import CASES
from tests.negative.guards import Guard, guard_of, guards, layers
from tests.negative.test_refusals import rows

named = pytest.mark.parametrize("guard", guards(), ids=lambda guard: guard.name)


def test_each_attack_has_one_guard() -> None:
    behind = {name for guard in guards() for name in guard.behind}
    assert {guard_of(case).name for case in CASES} | behind == {guard.name for guard in guards()}


@named
def test_a_guard_can_be_taken_away(guard: Guard) -> None:
    assert bool(guard.why) != bool(guard.edits or guard.security == "plaintext")
    for edit in guard.edits:
        [(file, text)] = edit.mutated(CHECKOUT).items()
        assert text != (CHECKOUT / file).read_text()
        if file.endswith(".py"):
            ast.parse(text)


@named
def test_all_its_attacks_succeed_without_it_by_the_page(guard: Guard) -> None:
    cells = [line.removesuffix(" |").split(" | ") for line in rows()]
    its = [row for row in cells if row[-3] == (guard.why or guard.name)]

    assert len(its) == len(guard.its_cases()), "run: make refusals-page"
    assert [row for row in its if not re.search(guard.succeeds, row[-1])] == []


def test_the_page_has_enough_rows() -> None:
    assert len(rows()) >= 120


@pytest.mark.parametrize("guard", [each for each in guards() if each.in_suite], ids=lambda guard: guard.name)
def test_its_attacks_succeed_without_it(guard: Guard) -> None:
    assert layers(guard).objections() == []
