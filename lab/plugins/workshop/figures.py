"""Figures in a notebook: charts, flows and tables as HTML that follows the notebook's theme, dark or light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from IPython import get_ipython
from jinja2 import ChoiceLoader, PackageLoader
from markupsafe import Markup

from lab.measure.compare import Interval
from lab.plugins.workshop.flow import Flow, draw_flow
from lab.report import digits, read_run
from lab.report.bars import Bar, BarChart, BarGroup
from lab.report.cost import cost
from lab.report.headline import answer
from lab.report.page import templates
from lab.report.palette import topology_style
from lab.report.picture import AnyChart, chart_markup
from lab.report.scales import linear
from lab.report.sections import timeline as timelines

if TYPE_CHECKING:
    from lab.plugins.workshop.guess import Guess
    from lab.runs import RunResult

_templates = templates.overlay(
    loader=ChoiceLoader([PackageLoader("lab.plugins.workshop"), PackageLoader("lab.report")])
)
_first = iter([True])


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure. The first one with a chart that a kernel shows carries the scripts that make charts interactive.

    Attributes:
        title: shown above it, and in place of it where there is no HTML.
        body: HTML.
        caption: shown below it.
    """

    title: str
    body: Markup
    caption: str = ""

    def __repr__(self) -> str:
        return f"[{self.title}]"

    def _repr_html_(self) -> str:
        with_scripts = 'class="chart"' in self.body and get_ipython() is not None and next(_first, False)
        return _templates.get_template("figure.html").render(figure=self, with_scripts=with_scripts)


def show(chart: AnyChart | Flow, caption: str = "") -> Figure:
    """A figure of a chart or a flow, with its title above and its note, or a caption, below."""
    if isinstance(chart, Flow):
        body = _templates.get_template("flow.html").render(flow=draw_flow(chart))
        return Figure(chart.title, Markup(body), caption)  # noqa: S704 (a template has escaped it)
    return Figure(chart.title, chart_markup(chart), caption or chart.note)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> Figure:
    """A figure of a table, with columns of numbers aligned right."""
    numbers = [name for place, name in enumerate(columns) if all(_is_number(row[place]) for row in rows)]
    body = _templates.get_template("table.html").render(columns=columns, rows=rows, numbers=numbers)
    return Figure(title, Markup(body), caption)  # noqa: S704 (a template has escaped it)


def timeline(run: RunResult, *, title: str = "", number: int = 1) -> Figure:
    """A figure of a run's answers and failures per second, with events.

    Args:
        run: the run.
        title: in place of the chart's own.
        number: of the run, as in a report of several.
    """
    [line] = timelines.view([read_run(run.folder, number=number)])
    if line.rates is None:
        return Figure(title or "A run without requests", Markup(""))
    return show(replace(line.rates, title=title or line.rates.title))


def answer_of(*runs: RunResult) -> Figure:
    """The first sentence of a report of these runs: the cost of one over the other, and what not to trust."""
    read = [read_run(each.folder, number=number) for number, each in enumerate(runs, 1)]
    top = answer(read, [], cost(read, []), [])
    return Figure(top.sentence, Markup("").join(Markup("<p>{}</p>").format(each) for each in top.doubts))


def beside(*figures: Figure) -> Figure:
    """One figure with several, one below the other."""
    body = Markup("").join(
        Markup('<p class="heading-line">{}</p>{}<figcaption>{}</figcaption>').format(
            each.title, each.body, each.caption
        )
        for each in figures
    )
    return Figure("", body)


def guesses(guess: Guess, measured: Mapping[str, float | Interval], title: str = "") -> Figure:
    """A figure of a guess beside measurements, a group for each name, and in words what was measured."""
    groups = []
    for name, value in measured.items():
        style = topology_style(name)
        bar = difference_bar("measured", style, value) if isinstance(value, Interval) else Bar("measured", style, value)
        expected = [Bar("your guess", "failed", guess.given[name])] if name in guess.given else []
        bars = [each if each.text else replace(each, text=three_digits(each.value)) for each in (*expected, bar)]
        groups.append(BarGroup(name, bars))
    ends = [end for group in groups for bar in group.bars for end in (bar.value, bar.low, bar.high) if end is not None]
    axis = linear(guess.unit, max(ends) or 1.0, low=min(ends))
    return show(BarChart(title or guess.question, axis, groups), in_words(measured, guess.unit))


def in_words(measured: Mapping[str, float | Interval], unit: str) -> str:
    """A sentence with each value and its interval; a value whose interval holds 0 is about 0."""
    parts = [f"{name} {_measured(value, unit)}" for name, value in measured.items()]
    n = next((value.rounds for value in measured.values() if isinstance(value, Interval)), 0)
    return f"Measured: {'; '.join(parts)}." + (f" In brackets: 95 % intervals over {n} rounds." if n else "")


def difference_bar(name: str, style: str, value: Interval) -> Bar:
    """The bar of a difference, with its interval; its text is about 0 if the interval holds 0."""
    return Bar(name, style, value.estimate, value.low, value.high, text=difference(value, ends=False))


def difference(value: Interval, unit: str = "", *, ends: bool = True) -> str:
    """The text of a difference, see :func:`lab.report.digits.difference`."""
    return digits.difference(value.estimate, value.low, value.high, unit=unit, ends=ends)


def _measured(value: float | Interval, unit: str) -> str:
    if isinstance(value, Interval):
        return difference(value, unit)
    return f"{three_digits(value)} {unit}".strip()


def three_digits(value: float) -> str:
    """A number with three significant digits and a true minus sign."""
    return f"{value:.3g}".replace("-", "−")


def _is_number(cell: object) -> bool:
    return str(cell).replace(",", "").replace(".", "").replace("−", "").strip().isdigit()
