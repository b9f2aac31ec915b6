"""What ``lab bench since --keep`` has kept, for the page of figures: the latest comparison, and charts of all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from docs.site.links import PAGES
from lab.plugins.bench.since import visits
from lab.plugins.bench.since.accepted import HISTORY
from lab.plugins.bench.since.figures import FIGURES
from lab.report.chart import Chart, Line
from lab.report.palette import SERIES, style_of
from lab.report.picture import to_svg
from lab.report.scales import linear, logarithmic

PICTURES = PAGES / "figures"
GROUPS = {
    "requests": (visits.default_lab,),
    "commands": (visits.mini_lab, visits.records),
    "control-plane": (visits.large_table, visits.convergence, visits.scale),
}
"""Pictures, by the visits whose figures they show: a line for each of all would be too many."""
NOTHING = "*Nothing kept yet: run `lab bench since --keep`.*"
_SHOWN = 12


def history(file: Path = HISTORY) -> list[dict[str, Any]]:
    """The kept comparisons, oldest first."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def block(kept: Sequence[Mapping[str, Any]]) -> str:
    """The latest comparison as a table, and the picture."""
    if not kept:
        return NOTHING
    latest = kept[-1]
    rows = [
        f"| {name}, {of['unit']} | {_number(of['old'])} | {_number(of['new'])} | {_ratio(of)} | {of['verdict']} |"
        for name, of in latest["figures"].items()
    ]
    table = ("| figure | old | new | new / old [95 % interval] | |", "|---|---:|---:|---:|---|", *rows)
    ran = f"*{latest['old'][:_SHOWN]} → {latest['new'].replace(latest['new'][:40], latest['new'][:_SHOWN])}, "
    ran += f"{latest['started']}, {latest['took_s']:.0f} s, {latest['machine']['cpus']} cores*"
    pictures = [f"![since: {group}](figures/since-{group}.svg)" for group, lines in grouped(kept).items() if lines]
    return "\n\n".join(("\n".join(table), *pictures, ran))


def costs(kept: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Each figure's cost at each comparison, as a multiple of that at the first old commit, by chained ratios."""
    lines: dict[str, list[tuple[float, float]]] = {}
    at: dict[tuple[str, str], float] = {}
    for number, comparison in enumerate(kept, 1):
        for name, each in comparison["figures"].items():
            if "ratio" not in each:
                continue
            ratio = each["ratio"]["estimate"]
            before = at.get((name, comparison["old"]), 1.0)
            cost = before * (1 / ratio if each["more_is_better"] else ratio)
            lines.setdefault(name, [(number - 1, before)]).append((number, cost))
            at[name, comparison["new"]] = cost
    return lines


def grouped(kept: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """The same by group; figures that are no longer measured are left out."""
    known = {name: FIGURES[name].visit for name in FIGURES}
    every = costs(kept)
    return {
        group: {name: points for name, points in every.items() if known.get(name) in of} for group, of in GROUPS.items()
    }


def draw(kept: Sequence[Mapping[str, Any]], folder: Path = PICTURES) -> None:
    """Writes a chart for each group that has comparisons."""
    for group, lines in grouped(kept).items():
        if not lines:
            continue
        values = [value for points in lines.values() for _, value in points]
        chart = Chart(
            title=f"Cost of {group.replace('-', ' ')}, as a multiple of that at the first commit",
            x=linear("comparison", len(kept)),
            y=logarithmic("cost; lower is better", min(values), max(values)),
            lines=[
                Line(name, style_of(number) + (" again-1" if number > len(SERIES) else ""), points)
                for number, (name, points) in enumerate(lines.items(), 1)
            ],
            note="Chained ratios of lab bench since; of figures of which more is better, the inverse.",
        )
        origin = f"{kept[0]['old'][:_SHOWN]} to {kept[-1]['new'][:_SHOWN]}"
        (folder / f"since-{group}.svg").write_text(to_svg(chart, origin))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _ratio(figure: Mapping[str, Any]) -> str:
    if "ratio" not in figure:
        return "–"
    ratio = figure["ratio"]
    low, high = (_number(ratio[end]) for end in ("low", "high"))
    return f"{ratio['estimate']:.3f} [{low}, {high}]"
