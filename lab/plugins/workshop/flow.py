"""A flow diagram: nodes in columns, connected by lines as thick as their traffic. Computes the layout; pure.

Each line has its number at its end. Lines to one node end one below the other, so that numbers do not overlap. Failures
are dashed and labelled: colour alone carries no meaning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

WIDTH = 800
_MARGIN = 4
_CHARACTER = 8.4
_NARROWEST = 120
_PORT = 20  # between two lines to one node
_LINE = 17
_PAD = 9
_GAP = 14
_TOP = 6
_THINNEST, _THICKEST = 1.5, 9.0


@dataclass(frozen=True, slots=True)
class Node:
    """A box.

    Attributes:
        name: unique within the flow, and its text.
        notes: small print below.
        down: whether none of its units runs.
    """

    name: str
    notes: Sequence[str] = ()
    down: bool = False


@dataclass(frozen=True, slots=True)
class Edge:
    """A line, from a node to one in the next column.

    Attributes:
        answered: number of requests that were answered.
        failed: number of those that were not.
    """

    start: str
    end: str
    answered: int
    failed: int = 0

    @property
    def label(self) -> str:
        """The text at its end."""
        failed = f"{self.failed:,} failed" if self.failed else ""
        return ", ".join(part for part in (f"{self.answered:,}" if self.answered else "", failed) if part)


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow.

    Attributes:
        title: what it shows; also what a screen reader says.
        columns: from left to right, each from top to bottom.
        style: gives lines their colour; see :mod:`lab.report.palette`.
    """

    title: str
    columns: Sequence[Sequence[Node]]
    edges: Sequence[Edge]
    style: str


@dataclass(frozen=True, slots=True)
class Text:
    """A text and its position; ``anchor`` as in SVG."""

    x: float
    y: float
    text: str
    anchor: str


@dataclass(frozen=True, slots=True)
class DrawnNode:
    """A box with its texts."""

    x: float
    y: float
    width: float
    height: float
    down: bool
    texts: Sequence[Text]


@dataclass(frozen=True, slots=True)
class DrawnEdge:
    """A line with its number: ``solid`` if some requests were answered, ``dashed`` if some failed."""

    path: str
    width: float
    solid: bool
    dashed: bool
    label: Text


@dataclass(frozen=True, slots=True)
class DrawnFlow:
    """A flow with the size and place, in SVG units, of all that it shows."""

    title: str
    width: float
    height: float
    style: str
    nodes: Sequence[DrawnNode]
    edges: Sequence[DrawnEdge]


def draw_flow(flow: Flow) -> DrawnFlow:
    """Lays a flow out."""
    heights = {node.name: _height(node, flow.edges) for column in flow.columns for node in column}
    tallest = max(sum(heights[node.name] + _GAP for node in column) - _GAP for column in flow.columns)
    boxes: dict[str, DrawnNode] = {}
    widths = [max(_width(node) for node in column) for column in flow.columns]
    between = (WIDTH - 2 * _MARGIN - sum(widths)) / max(len(flow.columns) - 1, 1)
    x = float(_MARGIN)
    for column, width in zip(flow.columns, widths, strict=True):
        # Spare height goes between the boxes, so that columns of the same heights have the same rows.
        spare = (tallest - sum(heights[node.name] for node in column)) / (len(column) + (len(column) == 1))
        y = _TOP + spare / 2
        for node in column:
            boxes[node.name] = _box(node, (round(x, 1), round(y, 1)), (width, heights[node.name]))
            y += heights[node.name] + spare
        x += width + between
    most = max((edge.answered for edge in flow.edges), default=0) or 1
    starts, ends = _ports(flow.edges, boxes, leaving=True), _ports(flow.edges, boxes, leaving=False)
    edges = [
        _edge(
            edge, (boxes[edge.start].x + boxes[edge.start].width, starts[edge]), (boxes[edge.end].x, ends[edge]), most
        )
        for edge in flow.edges
        if edge.answered or edge.failed
    ]
    return DrawnFlow(flow.title, WIDTH, tallest + 2 * _TOP, flow.style, list(boxes.values()), edges)


def _height(node: Node, edges: Sequence[Edge]) -> float:
    busiest = max(sum(node.name == edge.end for edge in edges), sum(node.name == edge.start for edge in edges))
    return max(2 * _PAD + _LINE * (1 + len(node.notes) + node.down) - 4, busiest * _PORT + 4)


def _width(node: Node) -> float:
    return max(_NARROWEST, 2 * _PAD + _CHARACTER * max(map(len, (node.name, *node.notes))))


def _box(node: Node, place: tuple[float, float], size: tuple[float, float]) -> DrawnNode:
    (x, y), (width, height) = place, size
    lines = [node.name, *(("✗ down",) if node.down else ()), *node.notes]
    first = y + height / 2 - _LINE * (len(lines) - 1) / 2 + 4.5
    texts = [
        Text(round(x + width / 2, 1), round(first + _LINE * number, 1), line, "middle")
        for number, line in enumerate(lines)
    ]
    return DrawnNode(x, y, width, height, node.down, texts)


def _ports(edges: Sequence[Edge], boxes: Mapping[str, DrawnNode], *, leaving: bool) -> dict[Edge, float]:
    """The height at which each line leaves or arrives, in the order of the boxes at its other end."""
    places: dict[Edge, float] = {}
    for name, box in boxes.items():
        own = [edge for edge in edges if (edge.start if leaving else edge.end) == name]
        own.sort(key=lambda edge: boxes[edge.end if leaving else edge.start].y)
        for number, edge in enumerate(own):
            places[edge] = round(box.y + box.height / 2 + _PORT * (number - (len(own) - 1) / 2), 1)
    return places


def _edge(edge: Edge, start: tuple[float, float], end: tuple[float, float], most: int) -> DrawnEdge:
    bend = round((start[0] + end[0]) / 2, 1)
    return DrawnEdge(
        path=f"M{start[0]:g} {start[1]:g}C{bend:g} {start[1]:g} {bend:g} {end[1]:g} {end[0]:g} {end[1]:g}",
        width=round(max(_THINNEST, _THICKEST * sqrt(edge.answered / most)), 1),
        solid=edge.answered > 0,
        dashed=edge.failed > 0,
        label=Text(round(end[0] - 7, 1), end[1] + 4.5, edge.label, "end"),
    )
