"""Draws charts as SVG and PNG with Vega in vl-convert, without a browser or the network.

A PNG's letters come from a font that is installed with the lab, so it looks the same on every machine, even on one
without fonts.
"""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
import zlib
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from html import escape
from importlib.util import cache_from_source
from pathlib import Path
from types import ModuleType

from markupsafe import Markup

from lab.errors import RunError
from lab.report.bars import BarChart, spec_of_bars
from lab.report.chart import Chart, Spec, spec_of_lines
from lab.report.heat import HeatMap, spec_of_heat
from lab.report.palette import light_only, page_colour

AnyChart = Chart | BarChart | HeatMap

_VEGA_LITE = "6.4"
_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
_FONT = "Inter"
_ZOOM = 2.0
_MARGIN = 20
_LINE = 125  # characters of small print in a line


def file_name(chart: AnyChart) -> str:
    """The name of a chart's files, without folder and suffix."""
    return re.sub(r"[^a-z0-9]+", "-", (chart.name or chart.title).lower()).strip("-") or "chart"


def spec_of(chart: AnyChart, *, live: bool = False) -> Spec:
    """A chart as a Vega-Lite document whose colours follow the page; ``live`` adds pan and zoom."""
    if isinstance(chart, HeatMap):
        body = spec_of_heat(chart)
    else:
        body = spec_of_bars(chart) if isinstance(chart, BarChart) else spec_of_lines(chart, live=live)
    return {
        "$schema": _SCHEMA,
        "description": chart.title,
        "background": None,
        "config": _config(),
        "padding": 0,
        **body,
    }


def drawn(chart: AnyChart) -> Markup:
    """A chart as an SVG element whose colours follow the page."""
    return Markup(_drawn(spec_of(chart), chart.title))  # noqa: S704 (Vega escapes what it draws)


def chart_markup(chart: AnyChart) -> Markup:
    """A chart as an element of a page: as SVG, with its Vega-Lite document for :func:`scripts`."""
    document = json.dumps(spec_of(chart, live=True), separators=(",", ":"))
    for sign in "<>&":
        document = document.replace(sign, f"\\u{ord(sign):04x}")
    script = Markup(f'<script type="application/json">{document}</script>')  # noqa: S704 (see above)
    return Markup('<div class="chart">{}{}</div>').format(drawn(chart), script)


def _drawn(spec: Spec, title: str) -> str:
    svg = _vega().vegalite_to_svg(spec, vl_version=_VEGA_LITE, allowed_base_urls=[])
    # Vega counts clipping paths over all charts it draws. Make the ids reproducible, and unique on a page.
    clips = re.findall(r'<clipPath id="clip(\d+)"', svg)
    svg = re.sub(r'(id="|url\(#)clip(\d+)', lambda found: f"{found[1]}clip-{clips.index(found[2])}", svg)
    svg = re.sub(r'(id="|url\(#)clip-', rf"\g<1>clip-{zlib.crc32(svg.encode()):08x}-", svg)
    svg = re.sub(r' (?:role="graphics-[a-z]+"|aria-roledescription="[^"]*")', "", svg)  # the whole is one image
    said = escape(title)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{said}" ', 1).replace(">", f"><title>{said}</title>", 1)


def to_svg(chart: AnyChart, origin: str = "") -> str:
    """A chart as an SVG document in light colours, under its title, note and origin: where its figures are from."""
    spec = spec_of(chart)
    title = {
        "text": textwrap.wrap(chart.title, _LINE * 3 // 4),
        "subtitle": textwrap.wrap(" ".join(part for part in (chart.note, origin) if part), _LINE),
    }
    right = spec["padding"]["right"] if spec["padding"] else 0
    padding = {"left": _MARGIN, "right": _MARGIN + right, "top": _MARGIN, "bottom": _MARGIN}
    spec |= {"title": title, "padding": padding, "background": page_colour("card")}
    return light_only(_drawn(spec, chart.title))


def to_png(svg: str) -> bytes:
    """An SVG document of :func:`to_svg` as a PNG image, at two pixels per unit."""
    image: bytes = _vega().svg_to_png(svg, scale=_ZOOM)
    return image


def write_pictures(svg: str, stem: Path, endings: Iterable[str] = (".svg", ".png")) -> list[Path]:
    """Writes an SVG document as files with these suffixes, and returns their paths.

    Raises:
        RunError: a file cannot be written.
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


@cache
def scripts() -> Markup:
    """Vega, Vega-Lite and vega-embed as one script for a page, 0.9 MB; it fetches nothing.

    Bundling takes seconds. The result is kept beside the compiled files of vl-convert, if Python may write them.
    """
    vega = _vega()
    kept = Path(cache_from_source(str(vega.__file__))).with_name(f"bundle-{vega.__version__}-{_VEGA_LITE}.js")
    try:
        bundle = kept.read_text()
    except (OSError, UnicodeDecodeError):
        bundle = str(vega.javascript_bundle(vl_version=_VEGA_LITE))
        _keep(kept, bundle)
    return Markup(bundle.replace("</script", r"<\/script"))  # noqa: S704 (so nothing in it ends it)


def _keep(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    if sys.dont_write_bytecode:
        return
    part = path.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text)
        part.replace(path)


@cache
def _vega() -> ModuleType:
    """vl-convert, loaded with the first chart: commands that draw nothing start faster without."""
    import fontpkg_inter  # noqa: PLC0415 (see above)
    import vl_convert  # noqa: PLC0415

    vl_convert.register_font_directory(str(fontpkg_inter.ROOT / "files"))
    return vl_convert


def _config() -> Spec:
    ink, quiet, grid = page_colour("ink"), page_colour("quiet"), page_colour("grid")
    words = {
        "labelColor": quiet,
        "labelFontSize": 13,
        "titleColor": ink,
        "titleFontSize": 13,
        "titleFontWeight": "normal",
    }
    return {
        "aria": False,
        "font": f"{_FONT}, system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif",
        "view": {"stroke": None},
        "text": {"color": ink, "fontSize": 13},
        "title": {
            "anchor": "start",
            "frame": "bounds",
            "color": ink,
            "fontSize": 16,
            "fontWeight": 600,
            "subtitleColor": quiet,
            "subtitleFontSize": 12,
            "subtitleLineHeight": 17,
            "lineHeight": 20,
            "offset": 14,
        },
        "axis": {**words, "domain": False, "ticks": False, "labelFlush": False, "gridColor": grid, "labelPadding": 8},
        "axisX": {"titleAnchor": "end", "titlePadding": 8},
        "axisY": {"titleAngle": 0, "titleAlign": "left", "titleBaseline": "bottom"},
        "legend": {**words, "labelColor": ink, "symbolStrokeWidth": 0},
    }
