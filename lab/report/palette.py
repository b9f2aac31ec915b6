"""Colours of charts, and who wears which. Okabe and Ito, "Color Universal Design", https://jfly.uni-koeln.de/color/.

They can be told apart by colour-blind people, and still none speaks alone: every line and bar has its name beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LIGHT: Mapping[str, str] = {
    "page": "#f6f7f8",
    "card": "#ffffff",
    "ink": "#1b1f23",
    "quiet": "#59636e",
    "rule": "#d8dde2",
    "grid": "#e6e9ec",
    "c1": "#0072b2",
    "c2": "#d55e00",
    "c3": "#009e73",
    "c4": "#cc79a7",
    "c5": "#e69f00",
    "c6": "#56b4e9",
    "c7": "#7b858f",
}
DARK: Mapping[str, str] = {
    **LIGHT,
    "page": "#101316",
    "card": "#191d21",
    "ink": "#e8eaed",
    "quiet": "#a3acb5",
    "rule": "#363d44",
    "grid": "#2a3036",
    "c1": "#56b4e9",
    "c6": "#0072b2",
}
STYLES: Mapping[str, str] = {**{f"run-{number}": f"c{number}" for number in range(1, 8)}, "failed": "ink"}
"""Class of the style sheet → its colour's name."""

_TOPOLOGIES = {
    "mesh": "run-1",
    "gateway": "run-2",
    "proxyless": "run-3",
    "gateway-header": "run-4",
    "gateway-passthrough": "run-5",
    "mesh-unleased": "run-6",
    "direct": "run-7",
}


def style_of(number: int) -> str:
    """The style of the n-th of several, from 1; there are seven, which then come round again."""
    return f"run-{(number - 1) % 7 + 1}"


def topology_style(topology: str) -> str:
    """The style that a topology has in every chart of benches; another name gets the one of ``direct``, grey."""
    return _TOPOLOGIES.get(topology, _TOPOLOGIES["direct"])
