"""Each kind of thing that one file adds has a page that shows how."""

import re

import pytest

from lab import CHECKOUT

FOLDER = CHECKOUT / "docs" / "extending"
KINDS = (
    "bench",
    "checker",
    "command",
    "engine",
    "fault",
    "picker",
    "renderer",
    "role",
    "runtime",
    "scenario",
    "target",
    "topology",
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_page_with_code_that_the_suite_runs(kind: str) -> None:
    shown = re.findall(r"{literalinclude} (\S+)", (FOLDER / f"{kind}.md").read_text())

    assert shown
    assert [each for each in shown if not (FOLDER / each).exists()] == []


def test_the_overview_links_every_page() -> None:
    linked = set(re.findall(r"\]\((\w+)\.md\)", (FOLDER / "index.md").read_text()))

    assert linked == {page.stem for page in FOLDER.glob("*.md")} - {"index"}
