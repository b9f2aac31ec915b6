"""Each attack is refused, with status and reason, and the next good call by the same way is answered."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from lab import CHECKOUT
from tests.negative.cases import CASES
from tests.negative.scene import Case, Scene, standing

PAGE = CHECKOUT / "docs" / "records" / "refusals.md"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with standing(tmp_path_factory.mktemp("negative")) as scene:
        yield scene


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_refused_with_its_reason_and_the_next_good_call_is_answered(scene: Scene, case: Case) -> None:
    answer = case.attempt(scene)

    assert case.status == answer.status, answer
    assert re.search(case.reason, answer.reason), answer
    assert scene.good_call(case.way) == ""
    assert [line for line in rows() if line.startswith(case.row(answer))], "run: make refusals-page"


def rows() -> list[str]:
    """The page's table."""
    return [line for line in PAGE.read_text().splitlines() if line.startswith("| ")][1:]
