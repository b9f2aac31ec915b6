"""Charts that any bench can have, from its arms and claims alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lab.measure.compare import median
from lab.measure.findings import State, written
from lab.report.bars import Bar, BarChart, BarGroup, Bound
from lab.report.chart import Chart, Line
from lab.report.palette import style_of
from lab.report.scales import linear, logarithmic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.measure.compare import Interval
    from lab.measure.findings import Claim
    from lab.report.scales import Scale

_MOST = 2.5  # times the greatest estimate: an interval that reaches further ends in an arrow

_CLAIMS = {State.HOLDS: "run-1", State.FAILS: "run-2", State.UNKNOWN: "run-7"}

MIXED = "as named"
"""The unit of arms that have not all the same."""


def chart_of_arms(name: str, unit: str, arms: Mapping[str, Sequence[float]], claims: Sequence[Claim]) -> BarChart:
    """The medians of all arms; where these have no unit in common, the claims against their bounds."""
    return chart_of_claims(name, claims) if unit == MIXED else chart_of_medians(name, unit, arms)


def chart_of_medians(
    name: str,
    unit: str,
    arms: Mapping[str, Sequence[float]],
    *,
    styles: Mapping[str, str] | None = None,
    bounds: Sequence[Bound] = (),
) -> BarChart:
    """A bar an arm: its median over the rounds, and the interval of that.

    Args:
        name: of the bench.
        unit: of the arms.
        arms: arm → one measurement a round.
        styles: arm → style; one after the other if left out.
        bounds: values that the arms are to be held against.
    """
    figures = {arm: median(values, seed=0) for arm, values in arms.items()}
    bars = [
        Bar(arm, styles[arm] if styles else style_of(number), figure.estimate, figure.low, figure.high)
        for number, (arm, figure) in enumerate(figures.items(), 1)
    ]
    wanted = [*(figure.estimate for figure in figures.values()), *(bound.value for bound in bounds)]
    lowest = min((figure.low for figure in figures.values() if math.isfinite(figure.low)), default=0.0)
    rounds = max((figure.rounds for figure in figures.values()), default=0)
    return BarChart(
        f"{name}: median of each arm",
        linear(unit, _far_enough(wanted, [figure.high for figure in figures.values()]), low=lowest),
        [BarGroup("", bars)],
        bounds=bounds,
        name="arms",
        note=f"Medians over n = {rounds} rounds, with 95 % intervals; one with an arrow goes on.",
    )


def chart_of_lines(
    title: str,
    x: Scale,
    y_title: str,
    lines: Mapping[str, Sequence[tuple[float, Interval]]],
    *,
    styles: Mapping[str, str],
    name: str,
    note: str,
) -> Chart:
    """A line each, through estimates with their intervals; over a logarithmic axis, so only what is above 0 is seen.

    Args:
        title: says what can be seen.
        x: axis of the first number of each point.
        y_title: what the figures are, with their unit.
        lines: label → points.
        styles: label → style.
        name: of its files.
        note: what a reader must know.
    """
    seen = {label: [(at, each) for at, each in points if each.estimate > 0] for label, points in lines.items()}
    estimates = [each.estimate for points in seen.values() for _, each in points] or [1.0]
    axis = logarithmic(y_title, min(estimates) / 2, max(estimates) * 2)
    drawn = [
        Line(
            label,
            styles[label],
            [(at, each.estimate) for at, each in points],
            [(axis.clamp(each.low), axis.clamp(each.high)) for _, each in points],
            dots=True,
        )
        for label, points in seen.items()
        if points
    ]
    return Chart(title, x, axis, drawn, name=name, note=note)


def chart_of_claims(name: str, claims: Sequence[Claim]) -> BarChart:
    """A bar a bound: the figure as a multiple of it."""
    bars = []
    for claim in claims:
        for sign, bound in (("≥", claim.at_least), ("≤", claim.at_most)):
            if bound:
                figure = claim.figure
                bars.append(
                    Bar(
                        claim.text,
                        _CLAIMS[claim.state],
                        figure.estimate / bound,
                        figure.low / bound,
                        figure.high / bound,
                        f"{written(figure.estimate)} ({sign} {bound:,g})",
                    )
                )
    most = _far_enough([1.0, *(bar.value for bar in bars)], [bar.high or 0.0 for bar in bars])
    rounds = max((claim.figure.rounds for claim in claims), default=0)
    return BarChart(
        f"{name}: figures against their bounds",
        linear("multiple of the bound", most),
        [BarGroup("", bars)],
        bounds=[Bound("bound", 1.0)],
        name="claims",
        note=f"n = {rounds} rounds, 95 % intervals, arrows go on. Blue: holds; orange: does not; grey: unknown.",
    )


def _far_enough(wanted: Sequence[float], ends: Sequence[float]) -> float:
    """Where an axis may end: with everything that is wanted, but not with an interval that would dwarf it."""
    most = max((value for value in wanted if math.isfinite(value)), default=0.0)
    return max([most, *(min(end, _MOST * most) for end in ends)])
