"""The notebooks in the site: a table of what each asks, and the pages that ``make notebooks-html`` has made of them.

Gives Markdown the directive ``{notebooks}``. The pages are copied beside the site's own, so that a link to one works
without a network; a notebook that was not published is named with its path.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.util.docutils import SphinxDirective

from docs.site.links import CHECKOUT, PAGES

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

PUBLISHED = PAGES / "notebooks"
_FOLDER = "notebooks"


@dataclass(frozen=True, slots=True)
class Notebook:
    """What the first cell of a notebook says of it.

    Attributes:
        name: of its file, without ending.
        question: empty if it asks none.
        minutes: that it takes a person, empty if it does not say.
    """

    name: str
    title: str
    question: str
    minutes: str

    @property
    def path(self) -> str:
        """In the checkout."""
        return f"{_FOLDER}/{self.name}.ipynb"

    @property
    def page(self) -> str:
        """In the site."""
        return f"{_FOLDER}/{self.name}.html"


def notebooks() -> list[Notebook]:
    """All of them, in their order."""
    return [_read(path) for path in sorted((CHECKOUT / _FOLDER).glob("*.ipynb"))]


def _read(path: Path) -> Notebook:
    opening = "".join(json.loads(path.read_text())["cells"][0]["source"])
    question = next((each for each in opening.split("\n\n") if each.endswith("?**")), "")
    minutes = re.search(r"About (\d+) minutes", opening)
    return Notebook(
        name=path.stem,
        title=opening.splitlines()[0].removeprefix("# "),
        question=" ".join(question.replace("**", "").split()),
        minutes=minutes.group(1) if minutes else "",
    )


def table(published: Path = PUBLISHED) -> str:
    """In Markdown: what each notebook asks, and where it is."""
    lines = ["| notebook | question | minutes |", "|---|---|---:|"]
    for each in notebooks():
        is_there = (published / f"{each.name}.html").exists()
        where = f'<a href="{each.page}">{each.title}</a>' if is_there else f"{each.title} (`{each.path}`)"
        lines.append(f"| {where} | {each.question} | {each.minutes} |")
    return "\n".join(lines)


class _Notebooks(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(table())


def _carry_pages(app: Sphinx, failure: Exception | None) -> None:
    if failure is None and app.builder.format == "html":
        for page in PUBLISHED.glob("*.html"):
            target = Path(app.outdir) / _FOLDER / page.name
            target.parent.mkdir(exist_ok=True)
            shutil.copy(page, target)


def register(app: Sphinx) -> None:
    """Makes the directive known, and has the pages copied."""
    app.add_directive("notebooks", _Notebooks)
    app.connect("build-finished", _carry_pages)
