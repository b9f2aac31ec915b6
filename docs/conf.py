"""Sphinx configuration for ``make docs``. Building and reading the site needs no network."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

from docs.site import floors, links, notebooks

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "Inference routing lab"
version = release = metadata.version("inference-routing-lab")
copyright = ""  # noqa: A001 (Sphinx's name)
html_show_copyright = False
html_show_sphinx = False

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "README.md", "examples", "notebooks"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# Pages use `sh` for commands, which the test suite runs, and `text` for output and drawings.
highlight_language = "text"

html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_search_scorer = str(links.PAGES / "site" / "search-score.js")
html_copy_source = False
html_show_sourcelink = False
html_theme_options: dict[str, object] = {"top_of_page_buttons": []}


def level_captions(_app: Sphinx, _page: str, _template: str, context: dict[str, Any], _doctree: object) -> None:
    """Gives captions of contents the level that Sphinx leaves out, without which screen readers cannot place them."""
    for part in ("body", "furo_navigation_tree"):
        context[part] = (context.get(part) or "").replace('role="heading">', 'role="heading" aria-level="2">')


def leave_out_of_sidebar(app: Sphinx, _document: object) -> None:
    """Pages that an index page lists, or that a command writes, are found from there and by the search."""
    folder, _, page = app.env.docname.rpartition("/")
    if folder and page != "index":
        app.env.metadata[app.env.docname]["orphan"] = ""


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.connect("html-page-context", level_captions, priority=900)  # after the theme
    app.connect("doctree-read", leave_out_of_sidebar)
    links.register(app)
    floors.register(app)
    notebooks.register(app)
