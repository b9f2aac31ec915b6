"""The notebooks in the site: a table of their questions, and the pages that ``make notebooks-html`` has written.

Adds the directive ``{notebooks}`` to Markdown. The pages are copied into the site, so links to them work without a
network. A notebook without a page is listed with its path.
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
    """A notebook, as its first cell describes it.

    Attributes:
        name: file name without extension.
        question: empty if there is none.
        minutes: how long a person takes; empty if unknown.
    """

    name: str
    title: str
    question: str
    minutes: str

    @property
    def path(self) -> str:
        """Path in the checkout."""
        return f"{_FOLDER}/{self.name}.ipynb"

    @property
    def page(self) -> str:
        """Path in the site."""
        return f"{_FOLDER}/{self.name}.html"


def notebooks() -> list[Notebook]:
    """All notebooks, in order."""
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
    """Markdown table of all notebooks: link or path, question, minutes."""
    lines = ["| notebook | question | minutes |", "|---|---|---:|"]
    for each in notebooks():
        is_there = (published / f"{each.name}.html").exists()
        where = f'<a href="{each.page}">{each.title}</a>' if is_there else f"{each.title} (`{each.path}`)"
        lines.append(f"| {where} | {each.question} | {each.minutes} |")
    return "\n".join(lines)


class _Notebooks(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(table())


def _copy_pages(app: Sphinx, failure: Exception | None) -> None:
    if failure is None and app.builder.format == "html":
        for page in PUBLISHED.glob("*.html"):
            target = Path(app.outdir) / _FOLDER / page.name
            target.parent.mkdir(exist_ok=True)
            shutil.copy(page, target)


def register(app: Sphinx) -> None:
    """Adds the directive to Sphinx, and copies the pages after the build."""
    app.add_directive("notebooks", _Notebooks)
    app.connect("build-finished", _copy_pages)
