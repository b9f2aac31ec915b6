"""Charts as files that stand alone: SVG, and PNG made from that very SVG. Always in the light style.

The letters of a PNG come from the font that is installed with the lab, so that it looks the same on every machine, also
on one that has no fonts.
"""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

import fontpkg_inter
import resvg_py

from lab.errors import RunError
from lab.report.bars import BarChart, draw_bars
from lab.report.chart import Chart, Drawing, draw
from lab.report.heat import HeatMap, draw_heat
from lab.report.palette import LIGHT
from lab.report.templating import templates

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

AnyChart = Chart | BarChart | HeatMap

_FONT = str(fontpkg_inter.ROOT / "files" / "Inter[opsz,wght].ttf")
_ZOOM = 2.0
_LINE = 112  # characters of small print that fit beside each other


def drawing_of(chart: AnyChart) -> Drawing:
    """Finds a place for everything in a chart of any kind."""
    if isinstance(chart, HeatMap):
        return draw_heat(chart)
    return draw_bars(chart) if isinstance(chart, BarChart) else draw(chart)


def file_name(chart: AnyChart) -> str:
    """What its files are called, without folder and ending."""
    return re.sub(r"[^a-z0-9]+", "-", (chart.name or chart.title).lower()).strip("-") or "chart"


def to_svg(chart: AnyChart, origin: str = "") -> str:
    """A chart as an SVG document, with its title above, and its note and origin below.

    Args:
        chart: what is to be drawn.
        origin: where its figures are from.
    """
    return drawing_to_svg(drawing_of(chart), " ".join(part for part in (chart.note, origin) if part))


def drawing_to_svg(drawing: Drawing, caption: str = "") -> str:
    """A drawing as an SVG document, with its title above and a caption below."""
    return templates.get_template("picture.svg").render(
        drawing=drawing,
        heading=textwrap.wrap(drawing.title, _LINE * 3 // 4),
        caption=textwrap.wrap(caption, _LINE),
        paint=LIGHT,
    )


def to_png(svg: str) -> bytes:
    """An SVG document of :func:`to_svg` as a PNG image, of two pixels a unit."""
    return resvg_py.svg_to_bytes(
        svg_string=svg, skip_system_fonts=True, font_files=[_FONT], font_family="Inter", zoom=_ZOOM
    )


def write_pictures(svg: str, stem: Path, endings: Iterable[str] = (".svg", ".png")) -> list[Path]:
    """Writes an SVG document as files of the given endings, and returns their paths.

    Raises:
        RunError: one cannot be written.
    """
    paths = []
    for ending in endings:
        path = stem.with_name(stem.name + ending)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(to_png(svg) if ending == ".png" else svg.encode())
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error.strerror}; name another folder") from error
        paths.append(path)
    return paths
