"""docs/answers.md: every command of the page says what the page shows."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from docs.site.answers import ANSWERS, BLOCK, PAGE, TIMEOUT_S, Answer, ask, lab_of_answers, written
from docs.site.blocks import marked
from lab.errors import UnitError
from lab.lab import Lab
from tests.lab_command import forked_commands

_FIGURE = re.compile(r"[\d.,]+")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab_of_answers(tmp_path_factory.mktemp("answers")) as lab:
        yield lab


@pytest.mark.timeout(TIMEOUT_S + 60)
@pytest.mark.parametrize("answer", ANSWERS, ids=lambda each: each.threads[0])
def test_the_command_says_what_the_page_shows(answer: Answer, lab: Lab) -> None:
    assert _lasting(written(answer, ask(answer, lab, commands=forked_commands()))) in _lasting(marked(PAGE)[BLOCK]), (
        "`python -m docs.site.answers` writes the page"
    )


def _lasting(text: str) -> str:
    return _FIGURE.sub("0", " ".join(text.split()))


def test_the_page_has_ten_questions_at_least_and_no_others() -> None:
    headings = re.findall(r"^## (.+)$", PAGE.read_text(), re.MULTILINE)

    assert headings == [each.question for each in ANSWERS]
    assert len(headings) >= 10
    assert re.search(r"commit [0-9a-f]{12}\*$", marked(PAGE)[BLOCK])


@pytest.mark.parametrize(("says", "status"), [(("another word",), 0), ((), 3)])
def test_a_command_that_says_or_returns_something_else_is_refused(says: tuple[str, ...], status: int, lab: Lab) -> None:
    (explain,) = [each for each in ANSWERS if each.command.startswith("lab routes explain")]

    with pytest.raises(UnitError, match="status 0, not said"):
        ask(replace(explain, says=says, status=status), lab)
