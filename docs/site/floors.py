"""Draws the floors of the code from the contract that `make lint` enforces, so that the drawing is never stale.

Adds the Markdown directive ``{floors}``.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from docs.site.links import CHECKOUT

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_WIDTH, _LEFT, _GAP, _ROW, _BOX = 760, 8, 8, 34, 26
_CHARACTER, _PADDING = 7.4, 18


@dataclass(frozen=True, slots=True)
class Room:
    """A module or package of the contract.

    Attributes:
        name: ``lab.client``.
        purpose: first sentence of its docstring.
    """

    name: str
    purpose: str


def floors() -> list[list[Room]]:
    """The floors from the top. Each imports only from those below; rooms of one floor may import each other."""
    return [[Room(name, _purpose(name)) for name in layer.split(" : ")] for layer in _layers()]


def other_contracts() -> list[str]:
    """Names of the contracts beside the floors."""
    return [contract["name"] for contract in _contracts() if contract["type"] != "layers"]


def _contracts() -> list[dict[str, Any]]:
    document = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    contracts: list[dict[str, Any]] = document["tool"]["importlinter"]["contracts"]
    return contracts


def _layers() -> list[str]:
    (contract,) = (contract for contract in _contracts() if contract["type"] == "layers")
    layers: list[str] = contract["layers"]
    return layers


def _purpose(module: str) -> str:
    path = CHECKOUT / module.replace(".", "/")
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(source.read_text())) or ""
    return " ".join(docstring.partition("\n\n")[0].split()).replace(":class:", "").replace("``", "`")


def drawing() -> str:
    """SVG in the page's colours; the style sheet adapts them to light and dark mode."""
    parts: list[str] = []
    y = 0
    for floor in floors():
        rows = list(_rows(floor))
        height = len(rows) * _ROW + 6
        parts.append(f'<rect class="floor" x="0" y="{y}" width="{_WIDTH}" height="{height}" rx="4"/>')
        for number, row in enumerate(rows):
            for x, width, room in row:
                top = y + 7 + number * _ROW
                parts.append(
                    f'<g><title>{escape(room.purpose)}</title><rect class="room" x="{x:.0f}" y="{top}" '
                    f'width="{width:.0f}" height="{_BOX}" rx="4"/>'
                    f'<text x="{x + width / 2:.0f}" y="{top + 17}">{escape(room.name)}</text></g>'
                )
        y += height + 6
    title = "Floors of the lab, from the top: each imports only from those below"
    return (
        f'<div class="drawing"><svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}" '
        f'role="img" aria-label="{title}">{"".join(parts)}</svg></div>'
    )


def _rows(floor: list[Room]) -> Iterator[list[tuple[float, float, Room]]]:
    """Rooms of a floor in rows of limited width: left edge, width, room."""
    row: list[tuple[float, float, Room]] = []
    x = float(_LEFT)
    for room in floor:
        width = len(room.name) * _CHARACTER + _PADDING
        if row and x + width > _WIDTH - _LEFT:
            yield row
            row, x = [], float(_LEFT)
        row.append((x, width, room))
        x += width + _GAP
    yield row


class _Floors(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(CHECKOUT / "pyproject.toml"))
        return [nodes.raw("", drawing(), format="html")]


def register(app: Sphinx) -> None:
    """Adds the directive to Sphinx."""
    app.add_directive("floors", _Floors)
