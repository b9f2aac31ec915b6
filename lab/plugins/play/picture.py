"""Draws a recorded play as one animated SVG: each act in turn above, and the figures so far below.

A viewer who asks for less motion, or whose program does not animate, sees the last act and all figures.
"""

from __future__ import annotations

from html import escape
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from lab.plain_text import printable
from lab.plugins.play.recording import Event, state_of
from lab.report.palette import AMBER, DARK, GREEN, LIGHT, VERMILION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

WIDTH = 720
ACT_S, LAST_S = 5.0, 6.0
"""How long each act is shown, and all figures at the end."""

_TOP, _ROW, _LEFT = 214, 42, 24
_IN_LINE = 84  # characters of a sentence
_FIGURE_IN_LINE = 50
_LONGEST = 400  # characters of any text
_REVEALS = 0.45  # share of an act's time after which its figure shows
_MOST_CALLERS = 40


def picture(events: Sequence[Event]) -> str:
    """The play as an SVG, light or dark as the page that shows it."""
    acts = [act for act in state_of(events)["acts"] if act["figure"]]
    total_s = ACT_S * len(acts) + LAST_S
    height = _TOP + _ROW * len(acts) + 16
    parts = [part for number, act in enumerate(acts) for part in _act(act, number, len(acts))]
    says = ". ".join(f"{_text(act['title'])}: {_text(act['figure'])}" for act in acts)
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
                f'height="{height}" role="img" aria-label="{escape(says)}">'
            ),
            f"<style>{_style(len(acts), total_s)}</style>",
            f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
            f'<line class="rule" x1="0" x2="{WIDTH}" y1="{_TOP - 12}" y2="{_TOP - 12}"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _act(act: Mapping[str, Any], number: int, count: int) -> Iterator[str]:
    """The scene of an act, and its row below."""
    figure, colour = _text(act["figure"]), "doubt" if act.get("doubt") else "good"
    colour, words_colour = (colour, "") if act["state"] == "shown" else ("bad", " bad")
    scene = "scene last" if number == count - 1 else "scene"
    yield f'<g class="{scene} scene{number}">'
    yield f'<text class="title" x="{_LEFT}" y="44">{act["number"]}. {_text(act["title"])}</text>'
    for line, words in enumerate(wrap(printable(act["sentence"], _LONGEST), _IN_LINE)[:2]):
        yield f'<text x="{_LEFT}" y="{72 + 21 * line}">{escape(words)}</text>'
    yield f'<g class="reveal reveal{number}">'
    for line, words in enumerate(wrap(printable(act["figure"], _LONGEST), _FIGURE_IN_LINE)[:2]):
        yield f'<text class="figure{words_colour}" x="{_LEFT}" y="{134 + 27 * line}">{escape(words)}</text>'
    yield from _callers(act)
    below = f"in doubt: {act['doubt']}" if act.get("doubt") else act.get("basis", "")
    yield f'<text class="quiet" x="{_LEFT}" y="190">{escape(printable(below, 100))}</text>'
    yield "</g></g>"
    y = _TOP + _ROW * number
    yield f'<g class="row row{number}"><circle class="{colour}" cx="{_LEFT + 5}" cy="{y + 11}" r="5"/>'
    yield f'<text x="{_LEFT + 20}" y="{y + 16}"><tspan class="name">{_text(act["title"])}</tspan></text>'
    yield f'<text class="quiet" x="{_LEFT + 20}" y="{y + 33}">{figure}</text></g>'


def _callers(act: Mapping[str, Any]) -> Iterator[str]:
    """A disc for each caller; those that were hit are crossed out."""
    of = act.get("of_callers") or 0
    if not isinstance(of, int) or not 0 < of <= _MOST_CALLERS:
        return
    for number in range(of):
        x, hit = _LEFT + 12 + 30 * number, number < (act.get("hit_callers") or 0)
        yield f'<circle class="{"bad" if hit else "good"}" cx="{x}" cy="160" r="10"/>'
        if hit:
            yield f'<path class="cross" d="M{x - 5} 155l10 10m0 -10l-10 10"/>'


def _style(count: int, total_s: float) -> str:
    def share(at_s: float) -> str:
        return f"{100 * at_s / total_s:.2f}%"

    def colours(palette: Mapping[str, str], good: str, bad: str) -> str:
        return (
            f".card{{fill:{palette['card']};stroke:{palette['rule']}}}.rule{{stroke:{palette['rule']}}}"
            f"text{{fill:{palette['ink']}}}.quiet{{fill:{palette['quiet']}}}"
            f".good{{fill:{good}}}.bad{{fill:{bad}}}.doubt{{fill:{AMBER}}}.cross{{stroke:{palette['card']}}}"
        )

    moves = []
    for number in range(count):
        begin, end = ACT_S * number, ACT_S * (number + 1)
        end_of_scene = total_s if number == count - 1 else end
        reveal = begin + _REVEALS * ACT_S
        until = "" if end_of_scene == total_s else f"{share(end)},100%{{opacity:0}}"
        rise = "" if not number else f"0%,{share(begin - 0.01)}{{opacity:0}}"
        moves += [
            f"@keyframes scene{number}{{{rise}{share(begin)},{share(end_of_scene - 0.01)}{{opacity:1}}{until}}}",
            f"@keyframes reveal{number}{{0%,{share(reveal - 0.3)}{{opacity:0}}{share(reveal)},100%{{opacity:1}}}}",
            f".scene{number}{{animation:scene{number} {total_s:g}s infinite}}",
            f".reveal{number},.row{number}{{animation:reveal{number} {total_s:g}s infinite}}",
        ]
    return (
        'text{font:15px "Segoe UI","DejaVu Sans",sans-serif}.title{font-size:22px;font-weight:700}'
        ".figure{font-size:21px;font-weight:700}.quiet{font-size:13px}.name{font-weight:600}"
        ".cross{fill:none;stroke-width:3}.scene{opacity:0}.last{opacity:1}"
        f"{colours(LIGHT, '#00704f', '#a84300')}"
        f"@media (prefers-color-scheme:dark){{{colours(DARK, GREEN, VERMILION)}}}"
        f"@media (prefers-reduced-motion:no-preference){{{''.join(moves)}}}"
    )


def _text(text: object) -> str:
    return escape(printable(str(text), _LONGEST))
