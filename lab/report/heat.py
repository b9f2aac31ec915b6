"""Heat maps as Vega-Lite: a tile for each row and column, whose colour grows fuller with its value. Pure.

There is one hue, and every tile has its value written in it, so readers need not compare colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.report.chart import CHARACTER, GAP, WIDTH, Spec, tooltips
from lab.report.palette import AMBER, page_colour

_TILE = 44
_FAINTEST = 0.12  # of values above 0, to tell them from 0
_DARK_LETTERS = 0.6  # from here on letters are black, also on a dark page


@dataclass(frozen=True, slots=True)
class Tile:
    """One value.

    Attributes:
        value: 0 to 1; None if it is unknown or does not exist.
        text: the value, written in the tile.
        more: a second line in small print.
    """

    value: float | None
    text: str
    more: str = ""


@dataclass(frozen=True, slots=True)
class HeatMap:
    """A heat map.

    Attributes:
        title: what the chart shows; also what a screen reader says.
        columns: their names.
        rows: their names.
        tiles: by row, then by column.
        name: of its files; made from the title if empty.
        note: what a reader must know to read it, e.g. n and what the intervals are.

    Raises:
        ValueError: there is not one tile for each row and column, or a value is not 0 to 1.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[str]
    tiles: Sequence[Sequence[Tile]]
    name: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if [len(row) for row in self.tiles] != [len(self.columns)] * len(self.rows):
            raise ValueError(f"{self.title!r}: not one tile for each of its rows and columns")
        for tile in (tile for row in self.tiles for tile in row):
            if tile.value is not None and not 0 <= tile.value <= 1:
                raise ValueError(f"{self.title!r}: a tile has the value {tile.value}; write 0 to 1")


def spec_of_heat(chart: HeatMap) -> Spec:
    """A heat map in Vega-Lite, with tooltips."""
    tiles = [
        {
            "row": row,
            "column": column,
            "figure": " · ".join(part for part in (tile.text, tile.more) if part),
            "text": tile.text,
            "more": tile.more,
            "known": tile.value is not None,
            "strength": strength(tile),
            "letters": "#000" if strength(tile) >= _DARK_LETTERS else page_colour("ink"),
        }
        for row, of_row in zip(chart.rows, chart.tiles, strict=True)
        for column, tile in zip(chart.columns, of_row, strict=True)
    ]
    left = GAP + CHARACTER * max(map(len, chart.rows), default=0)
    names = {"labelColor": page_colour("ink"), "labelFontWeight": 600, "labelLimit": 0, "grid": False}
    bands = {"paddingInner": 0.04, "paddingOuter": 0}

    def text(field: str, **mark: object) -> Spec:
        colour = {"field": "letters", "type": "nominal", "scale": None}
        return {"mark": {"type": "text", **mark}, "encoding": {"text": {"field": field}, "color": colour}}

    return {
        "width": WIDTH - left - GAP,
        "height": {"step": _TILE},
        "data": {"values": tiles},
        "encoding": {
            "x": {
                "field": "column",
                "type": "ordinal",
                "title": None,
                "sort": list(chart.columns),
                "scale": bands,
                "axis": {"orient": "top", "labelAngle": 0, **names},
            },
            "y": {
                "field": "row",
                "type": "ordinal",
                "title": None,
                "sort": list(chart.rows),
                "scale": bands,
                "axis": {"labelPadding": GAP, "minExtent": left, **names},
            },
            "tooltip": tooltips("row", "column", "figure"),
        },
        "layer": [
            {
                "transform": [{"filter": "datum.known"}],
                "mark": {"type": "rect", "cornerRadius": 4, "fill": AMBER, "stroke": page_colour("rule")},
                "encoding": {"fillOpacity": {"field": "strength", "type": "quantitative", "scale": None}},
            },
            {
                "transform": [{"filter": "!datum.known"}],
                "mark": {
                    "type": "rect",
                    "cornerRadius": 4,
                    "fill": "transparent",
                    "stroke": page_colour("quiet"),
                    "strokeDash": [4, 3],
                },
            },
            *(
                {"transform": [{"filter": f"{sign}datum.more"}], **text("text", dy=dy, fontWeight=600)}
                for sign, dy in (("", -8), ("!", 0))
            ),
            text("more", dy=9, fontSize=11.5),
        ],
    }


def strength(tile: Tile) -> float:
    """How full the tile's colour is, 0 to 1."""
    return round(_FAINTEST + (1 - _FAINTEST) * tile.value, 3) if tile.value else 0.0
