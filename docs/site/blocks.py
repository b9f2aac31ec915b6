"""What is written into pages by a program: blocks and words between marks, which a reader of the page does not see.

A block stands on lines of its own, a figure within a line::

    <!-- block: travels.mesh -->
    …
    <!-- end -->

    about <!-- figure: encodings.json_bytes -->68<!-- end --> bytes
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from docs.site.links import CHECKOUT, PAGES
from lab.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_MARKED = re.compile(r"<!-- (?P<kind>block|figure): (?P<name>[a-z0-9_.-]+) -->(?P<text>.*?)<!-- end -->", re.DOTALL)


def pages() -> list[Path]:
    """Every page that may hold marks."""
    return [CHECKOUT / "README.md", *(path for path in sorted(PAGES.rglob("*.md")) if "_build" not in path.parts)]


def marked(page: Path) -> dict[str, str]:
    """What stands between the marks of a page, by name."""
    return {found["name"]: found["text"].strip("\n") for found in _MARKED.finditer(page.read_text())}


def write(page: Path, texts: Mapping[str, str]) -> bool:
    """Puts these texts between the marks of a page that have their names; returns whether the page has changed.

    Raises:
        InputError: a text would end its block.
    """

    def replaced(found: re.Match[str]) -> str:
        text = texts.get(found["name"])
        if text is None:
            return found[0]
        if "<!--" in text:
            raise InputError(f"{page.name}: {found['name']}: the text has a mark in it")
        inner = f"\n{text}\n" if found["kind"] == "block" else text
        return f"<!-- {found['kind']}: {found['name']} -->{inner}<!-- end -->"

    before = page.read_text()
    after = _MARKED.sub(replaced, before)
    if after != before:
        page.write_text(after)
    return after != before
