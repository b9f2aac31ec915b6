"""What ``lab bench since --keep`` has kept, for the page of figures: the latest comparison, and all as a chart."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from docs.site.links import PAGES
from lab.bench.since.accepted import HISTORY
from lab.report.chart import Chart, Line
from lab.report.palette import style_of
from lab.report.picture import to_svg
from lab.report.scales import linear, logarithmic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PICTURE = PAGES / "figures" / "since-history.svg"
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
    return "\n".join((*table, "", "![since: cost of each figure](figures/since-history.svg)", "", ran))


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


def draw(kept: Sequence[Mapping[str, Any]], file: Path = PICTURE) -> None:
    """Writes the chart; none without comparisons."""
    lines = costs(kept)
    if not lines:
        return
    values = [value for points in lines.values() for _, value in points]
    chart = Chart(
        title="Cost of each figure, as a multiple of that of the first commit",
        x=linear("comparison", len(kept)),
        y=logarithmic("cost; lower is better", min(values), max(values)),
        lines=[Line(name, style_of(number), points) for number, (name, points) in enumerate(lines.items(), 1)],
        note="Chained ratios of lab bench since; of figures of which more is better, the inverse.",
    )
    file.write_text(to_svg(chart, f"{kept[0]['old'][:_SHOWN]} to {kept[-1]['new'][:_SHOWN]}"))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _ratio(figure: Mapping[str, Any]) -> str:
    if "ratio" not in figure:
        return "–"
    ratio = figure["ratio"]
    low, high = (_number(ratio[end]) for end in ("low", "high"))
    return f"{ratio['estimate']:.3f} [{low}, {high}]"
