"""The page as one HTML file with its style and its script, which needs no other."""

from __future__ import annotations

import re
from base64 import b64encode
from functools import cache
from hashlib import sha256

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lab.plugins.console import traffic
from lab.report import palette

SCRIPTS = ("state.js", "drawing.js", "figures.js", "control.js", "request.js", "timeline.js", "talk.js", "main.js")
"""In the order in which they are put together, as one module."""

_INLINE = re.compile(r"<(script|style)[^>]*>(.*?)</\1>", re.DOTALL)


@cache
def page() -> str:
    """The page without data, which it asks the server for."""
    return _page("")


def page_with(everything: bytes) -> str:
    """The page as its own file, with all that a board shows."""
    return _page(Markup(everything.decode().replace("<", "\\u003c")))  # noqa: S704 (JSON, which no tag can end)


def _page(data: str) -> str:
    templates = Environment(
        loader=PackageLoader("lab.plugins.console"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return templates.get_template("page.html").render(
        data=data,
        scripts=SCRIPTS,
        light=palette.LIGHT,
        dark=palette.DARK,
        dark_variants=palette.dark_variants(),
        series=palette.SERIES,
        bin=traffic.BIN,
        tick_ms=traffic.TICK_NS // 1_000_000,
    )


def content_policy(document: str) -> str:
    """What a browser lets this page do: run its own script, in its own style, and ask its own server."""
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for tag, content in _INLINE.findall(document):
        digest = b64encode(sha256(content.encode()).digest()).decode()
        hashes[tag].append(f"'sha256-{digest}'")
    allowed = "; ".join(f"{tag}-src {' '.join(each)}" for tag, each in hashes.items())
    own = "connect-src 'self'; img-src data:"
    return f"default-src 'none'; {allowed}; {own}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
