"""The templates, and what they may call."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from lab.measure.findings import written
from lab.report import palette

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
templates.globals["light"] = palette.LIGHT
templates.globals["dark"] = palette.DARK
templates.globals["styles"] = palette.STYLES
