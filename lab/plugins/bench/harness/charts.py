"""Charts of any bench, from its samples and claims alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lab.measure.compare import Interval, median
from lab.measure.findings import Claim, State, written
from lab.report.bars import Bar, BarChart, BarGroup, Bound
from lab.report.chart import Chart, Line
from lab.report.palette import style_of
from lab.report.scales import Scale, linear, logarithmic

_MOST = 2.5  # times the greatest estimate; an interval that reaches further ends in an arrow

_CLAIMS = {State.HOLDS: "run-1", State.FAILS: "run-2", State.UNDECIDED: "run-7"}

MIXED = "as named"
"""The unit of samples that differ in unit."""


def chart_of_medians(
    title: str,
    unit: str,
    samples: Mapping[str, Sequence[float]],
    *,
    styles: Mapping[str, str] | None = None,
) -> BarChart:
    """Returns one bar per variant of the samples: the median over the rounds with its interval."""
    return chart_of_grouped_medians(title, unit, {"": samples}, styles=styles)


def chart_of_grouped_medians(
    title: str,
    unit: str,
    groups: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    styles: Mapping[str, str] | None = None,
) -> BarChart:
    """Returns the same for groups of variants, each under its own heading; a variant's colour is its place's."""
    figures = {
        label: {variant: median(values) for variant, values in samples.items()} for label, samples in groups.items()
    }
    rounds = max((figure.rounds for group in figures.values() for figure in group.values()), default=0)
    note = f"Medians over n = {rounds} rounds, with 95 % intervals; an arrow marks one that is cut off."
    return chart_of_bars(title, unit, figures, styles=styles, name="medians", note=note)


def chart_of_bars(
    title: str,
    unit: str,
    groups: Mapping[str, Mapping[str, Interval]],
    *,
    styles: Mapping[str, str] | None = None,
    bounds: Sequence[Bound] = (),
    name: str,
    note: str,
) -> BarChart:
    """Returns groups of bars with their intervals; for the arguments see :func:`chart_of_medians`."""
    measured = {
        label: {bar: figure for bar, figure in group.items() if figure.rounds} for label, group in groups.items()
    }
    figures = [figure for group in measured.values() for figure in group.values()]
    wanted = [*(figure.estimate for figure in figures), *(bound.value for bound in bounds)]
    lowest = min((figure.low for figure in figures if math.isfinite(figure.low)), default=0.0)
    return BarChart(
        title,
        linear(unit, _far_enough(wanted, [figure.high for figure in figures]), low=lowest),
        [
            BarGroup(
                label,
                [
                    Bar(bar, styles[bar] if styles else style_of(number), it.estimate, it.low, it.high)
                    for number, (bar, it) in enumerate(group.items(), 1)
                ],
            )
            for label, group in measured.items()
        ],
        bounds=bounds,
        name=name,
        note=note,
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
    """Returns one line per label, with intervals. The y axis is logarithmic, so it shows only what is above 0."""
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
    """Returns one bar per bound of a claim: the figure as a multiple of the bound."""
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
        note=f"n = {rounds} rounds, 95 % intervals. Blue: holds; orange: does not; grey: undecided.",
    )


def _far_enough(wanted: Sequence[float], ends: Sequence[float]) -> float:
    """Where an axis ends: beyond all that must be seen, but not at an interval's end that would dwarf it."""
    most = max((value for value in wanted if math.isfinite(value)), default=0.0)
    return max([most, *(min(end, _MOST * most) for end in ends)])
