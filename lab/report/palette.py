"""Colours of reports and charts. Okabe and Ito, "Color Universal Design", https://jfly.uni-koeln.de/color/.

Colour-blind readers can tell them apart; even so, every line and bar has its name beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from lab.topologies import TOPOLOGIES

LIGHT: Mapping[str, str] = {
    "page": "#f6f7f8",
    "card": "#ffffff",
    "ink": "#1b1f23",
    "quiet": "#59636e",
    "rule": "#d8dde2",
    "grid": "#e6e9ec",
}
DARK: Mapping[str, str] = {
    "page": "#101316",
    "card": "#191d21",
    "ink": "#e8eaed",
    "quiet": "#a3acb5",
    "rule": "#363d44",
    "grid": "#2a3036",
}
"""Colours that differ between a light and a dark page, by name."""

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7b858f")
"""Colours of what is not a topology, in turn."""

AMBER, GREEN, VERMILION, GREY = SERIES[4], SERIES[2], SERIES[1], SERIES[6]
FAILED = "failed"
"""Style of failures: ink, dashed."""

_DASHES: Mapping[str, list[int]] = {FAILED: [6, 3], "again-1": [9, 4], "again-2": [2, 3]}
_LEAST_CONTRAST = 4.5
"""With what it lies on: what WCAG 2.2, 1.4.3 asks of text, more than 1.4.11 asks of graphics."""


def style_of(number: int) -> str:
    """The style of the n-th of several, from 1; there are seven, which then repeat."""
    return f"run-{(number - 1) % len(SERIES) + 1}"


def topology_style(topology: str) -> str:
    """The style of a topology in every chart: its colour. A topology that is not known here is grey."""
    return TOPOLOGIES[topology].colour if topology in TOPOLOGIES else GREY


def page_colour(name: str) -> str:
    """A colour that follows the page, in CSS; a light one where the page sets none, as in its own file."""
    return f"var(--{name}, {LIGHT[name]})"


def colour_of(style: str) -> str:
    """The colour of a style, in CSS: of ``run-3``, ``failed`` or ``#rrggbb``, each perhaps with dashes behind it."""
    name = style.split(maxsplit=1)[0]
    if name == FAILED:
        return page_colour("ink")
    colour = SERIES[int(name.removeprefix("run-")) - 1] if name.startswith("run-") else name
    return f"var(--c{colour[1:]}, {colour})" if colour in dark_variants() else colour


def dashes_of(style: str) -> list[int]:
    """Lengths of the dashes and gaps of a style's lines; ``[1, 0]`` if they are solid."""
    return next((_DASHES[word] for word in style.split() if word in _DASHES), [1, 0])


def dark_variants() -> Mapping[str, str]:
    """For each colour that is too dark for a dark page: a lighter one to take there."""
    colours = {*SERIES, *(topology.colour for topology in TOPOLOGIES.values())}
    return {colour: _lightened(colour) for colour in sorted(colours) if _on_dark(colour) < _LEAST_CONTRAST}


def light_only(markup: str) -> str:
    """The same with the light page's colours in place of those that follow the page."""
    return re.sub(r"var\(--\w+, (#\w+)\)", r"\1", markup)


def _lightened(colour: str) -> str:
    while _on_dark(colour) < _LEAST_CONTRAST:
        colour = "#" + "".join(f"{(9 * channel + 255) // 10 + 1:02x}" for channel in _channels(colour))
    return colour


def _on_dark(colour: str) -> float:
    """Contrast with a dark card: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""
    one, other = sorted((_luminance(colour), _luminance(DARK["card"])))
    return (other + 0.05) / (one + 0.05)


def _luminance(colour: str) -> float:
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4  # noqa: PLR2004 (sRGB)
        for value in (channel / 255 for channel in _channels(colour))
    ]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _channels(colour: str) -> list[int]:
    return [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
