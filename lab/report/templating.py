"""The templates, with their filters and globals."""

from __future__ import annotations

import math

from jinja2 import Environment, PackageLoader, StrictUndefined

from lab.measure.findings import written
from lab.report import palette
from lab.report.conditions import in_words
from lab.report.picture import chart_markup, scripts

_LONG = 100


def _short(value: float) -> str:
    """An end of an interval, with two decimals below 100."""
    return "∞" if math.isinf(value) else f"{value:,.0f}" if value >= _LONG else f"{value:.2f}"


templates = Environment(
    loader=PackageLoader("lab.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
templates.filters["count"] = "{:,}".format
templates.filters["decimal"] = "{:,.2f}".format
templates.filters["rate"] = "{:,.1f}".format
templates.filters["figure"] = written
templates.filters["ms"] = _short
templates.filters["percent"] = lambda share: f"{100 * share:.2f} %"
templates.filters["in_words"] = in_words
templates.globals["light"] = palette.LIGHT
templates.globals["dark"] = palette.DARK
templates.globals["series"] = palette.SERIES
templates.globals["dark_variants"] = palette.dark_variants
templates.filters["colour"] = palette.colour_of
templates.globals["scripts"] = scripts
templates.filters["chart"] = chart_markup
