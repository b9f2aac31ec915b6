"""The glossary defines each term once, in order."""

import re

from lab import CHECKOUT

ROWS = re.findall(r"^\| \*\*(.+?)\*\* \| (.+) \|$", (CHECKOUT / "docs" / "glossary.md").read_text(), re.MULTILINE)
TERMS = [term for term, _ in ROWS]


def test_terms_are_sorted_and_each_is_defined_once() -> None:
    folded = [term.casefold() for term in TERMS]

    assert folded == sorted(set(folded))


def test_every_row_defines_a_term_in_a_sentence() -> None:
    table = [line for line in (CHECKOUT / "docs" / "glossary.md").read_text().splitlines() if line.startswith("|")]

    assert len(table) - 2 == len(ROWS) > 50
    assert [term for term, meaning in ROWS if not meaning.endswith(".")] == []


def test_the_words_of_the_published_design_are_there() -> None:
    published = {
        *("assignment", "validation", "mapping"),
        *("allocation", "selection", "routing", "execution"),
        *("Switchboard", "Lightbulb"),
    }

    assert published - set(TERMS) == set()
