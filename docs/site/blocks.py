"""Text that a program writes into pages, between marks that a reader of the page does not see.

A block, a table or a picture stands on lines of its own, a figure within a line::

    <!-- block: travels.mesh -->
    …
    <!-- end -->

    <!-- table: checkers -->
    …
    <!-- end -->

    <!-- picture: overview -->
    …
    <!-- end -->

    about <!-- figure: encodings.json_bytes -->68<!-- end --> bytes
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from docs.site.links import CHECKOUT, PAGES
from lab.errors import InputError

_MARKED = re.compile(
    r"<!-- (?P<kind>block|figure|picture|table): (?P<name>[a-z0-9_.-]+) -->(?P<text>.*?)<!-- end -->", re.DOTALL
)


def pages() -> list[Path]:
    """Every page that may contain marks."""
    return [CHECKOUT / "README.md", *(path for path in sorted(PAGES.rglob("*.md")) if "_build" not in path.parts)]


def marked(page: Path, *kinds: str) -> dict[str, str]:
    """The text between a page's marks, by name: of these kinds, or of all if none is given."""
    return {
        found["name"]: found["text"].strip("\n")
        for found in _MARKED.finditer(page.read_text())
        if not kinds or found["kind"] in kinds
    }


def write(page: Path, texts: Mapping[str, str]) -> bool:
    """Writes texts between the marks of a page that have their names; returns whether the page has changed.

    Raises:
        InputError: a text contains a mark itself.
    """

    def replaced(found: re.Match[str]) -> str:
        text = texts.get(found["name"])
        if text is None:
            return found[0]
        if "<!--" in text:
            raise InputError(f"{page.name}: {found['name']}: the text has a mark in it")
        inner = text if found["kind"] == "figure" else f"\n{text}\n"
        return f"<!-- {found['kind']}: {found['name']} -->{inner}<!-- end -->"

    before = page.read_text()
    after = _MARKED.sub(replaced, before)
    if after != before:
        page.write_text(after)
    return after != before
