"""Heat maps: a tile for each row and column, the fuller its colour, the more. Pure, like the other charts.

One hue from nothing to full, and every tile has its figure written in it: nobody has to tell colours apart.
"""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 (what a bench leaves is read back by its annotations)
from dataclasses import dataclass

from lab.report.chart import BOTTOM, CHARACTER, GAP, ROW, WIDTH, Drawing, DrawnTile, Text

_TILE = 44
_SPACE = 3
_FAINTEST = 0.12  # of what is more than nothing, lest it look like nothing
_DARK_LETTERS = 0.6  # from here on letters are black, in the dark style too


@dataclass(frozen=True, slots=True)
class Tile:
    """One value.

    Attributes:
        value: 0 to 1; None if it is not known, or there is none.
        text: what is written in it: the figure.
        more: a second line, smaller.
    """

    value: float | None
    text: str
    more: str = ""


@dataclass(frozen=True, slots=True)
class HeatMap:
    """What is to be drawn.

    Attributes:
        title: says what can be seen to those who cannot see it.
        columns: their names.
        rows: their names.
        tiles: one row of them a name, one tile a column.
        name: of its files; made from the title if empty.
        note: what a reader must know to read it, e.g. n and what the intervals are.
        x_title: what the columns are.

    Raises:
        ValueError: tiles are missing or too many, or a value is not 0 to 1.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[str]
    tiles: Sequence[Sequence[Tile]]
    name: str = ""
    note: str = ""
    x_title: str = ""

    def __post_init__(self) -> None:
        if [len(row) for row in self.tiles] != [len(self.columns)] * len(self.rows):
            raise ValueError(f"{self.title!r}: not one tile for each of its rows and columns")
        for tile in (tile for row in self.tiles for tile in row):
            if tile.value is not None and not 0 <= tile.value <= 1:
                raise ValueError(f"{self.title!r}: a tile of {tile.value}; it is 0 to 1")


def draw_heat(chart: HeatMap) -> Drawing:
    """Finds a place for everything in a heat map."""
    left = max(map(len, chart.rows), default=0) * CHARACTER * 0.86 + GAP
    width = (WIDTH - left) / max(1, len(chart.columns))
    top = ROW + GAP
    tiles = [
        _tile(each, left + width * column, top + _TILE * row, width - _SPACE)
        for row, of_row in enumerate(chart.tiles)
        for column, each in enumerate(of_row)
    ]
    bottom = top + _TILE * len(chart.rows)
    names = [Text(left - GAP, top + _TILE * row + _TILE / 2 + 4, name, "end") for row, name in enumerate(chart.rows)]
    names += [
        Text(left + width * column + (width - _SPACE) / 2, top - GAP, name, "middle")
        for column, name in enumerate(chart.columns)
    ]
    return Drawing(
        title=chart.title,
        width=WIDTH,
        height=bottom + (BOTTOM if chart.x_title else GAP),
        left=left,
        top=top,
        right=WIDTH,
        bottom=bottom,
        x_title=chart.x_title,
        y_title="",
        x_ticks=(),
        y_ticks=(),
        names=names,
        tiles=tiles,
    )


def _tile(tile: Tile, x: float, y: float, width: float) -> DrawnTile:
    height = _TILE - _SPACE
    middle = x + width / 2
    strength = 0.0 if not tile.value else _FAINTEST + (1 - _FAINTEST) * tile.value
    return DrawnTile(
        x=round(x, 1),
        y=y,
        width=round(width, 1),
        height=height,
        strength=round(strength, 3),
        known=tile.value is not None,
        inside=strength >= _DARK_LETTERS,
        text=Text(middle, y + (height / 2 - 2 if tile.more else height / 2 + 4), tile.text, "middle"),
        more=Text(middle, y + height / 2 + 14, tile.more, "middle") if tile.more else None,
    )
