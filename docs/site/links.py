"""Turns a page's links into the checkout, which is not part of the site, into the path of the file.

The same line of Markdown is then a link in the repository, and text in the built site, which needs no network and names
no host.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx import addnodes

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.application import Sphinx

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = CHECKOUT / "docs"
_FOR_READERS = {".md", ".json", ".html"}


def register(app: Sphinx) -> None:
    """Connects this module to Sphinx."""
    app.connect("doctree-read", _say_paths)


def in_checkout(target: str, page: Path) -> Path | None:
    """Relative path of the file or folder that a link leads to, if it is in the checkout but not in the site."""
    found = (page.parent / target.partition("#")[0]).resolve()
    if not found.exists() or not found.is_relative_to(CHECKOUT):
        return None
    for_readers = found.is_relative_to(PAGES) and found.suffix in _FOR_READERS
    return None if for_readers else found.relative_to(CHECKOUT)


def _say_paths(app: Sphinx, document: nodes.document) -> None:
    page = Path(app.srcdir) / app.env.doc2path(app.env.docname, base=False)
    # MyST turns links to files into downloads, and treats links to folders as missing pages.
    for kind in (addnodes.download_reference, addnodes.pending_xref):
        for node in list(document.findall(kind)):
            path = in_checkout(node["reftarget"], page) if "/" in node["reftarget"] else None
            if path is not None:
                node.parent.replace(node, _words(node, path))


def _words(node: Element, path: Path) -> nodes.literal:
    """The link's own text, with the path if the text does not contain it."""
    words = node.astext().rstrip("/")
    shown = str(path) if words in {"", path.name} or str(path).endswith(words) else f"{words} ({path})"
    return nodes.literal(shown, shown)
