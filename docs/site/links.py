"""Links of a page into the checkout, which is no part of the site: they become the path that they lead to.

So one and the same line of Markdown is a link where the repository is browsed, and words in the built site, which needs
no network and names no host.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx import addnodes

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = CHECKOUT / "docs"


def register(app: Sphinx) -> None:
    """Has Sphinx ask this module."""
    app.connect("doctree-read", _replace_downloads)
    app.connect("missing-reference", _as_path)


def in_checkout(target: str, page: Path) -> Path | None:
    """The file or folder outside of the site that a link on a page leads to; None if there is none."""
    found = (page.parent / target.partition("#")[0]).resolve()
    if not found.exists() or not found.is_relative_to(CHECKOUT):
        return None
    return found.relative_to(CHECKOUT)


def _as_path(app: Sphinx, env: BuildEnvironment, node: Element, content: Element) -> nodes.literal | None:
    del content
    path = in_checkout(node.get("reftarget", ""), Path(app.srcdir) / env.doc2path(node["refdoc"], base=False))
    return None if path is None else _words(node, path)


def _replace_downloads(app: Sphinx, document: nodes.document) -> None:
    """MyST makes downloads of links to files; a copy of a module in the site would be read as if it were the module."""
    page = Path(app.srcdir) / app.env.doc2path(app.env.docname, base=False)
    for node in list(document.findall(addnodes.download_reference)):
        path = in_checkout(node["reftarget"], page)
        if path is not None:
            node.parent.replace(node, _words(node, path))


def _words(node: Element, path: Path) -> nodes.literal:
    """The link's own words, and the path if they do not say it."""
    words = node.astext()
    shown = str(path) if words in {"", str(path), path.name} else f"{words} ({path})"
    return nodes.literal(shown, shown)
