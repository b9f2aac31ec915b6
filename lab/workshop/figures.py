"""Figures in a notebook: charts, flows and tables as HTML that follows the notebook's theme, dark or light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from IPython import get_ipython
from jinja2 import ChoiceLoader, PackageLoader
from markupsafe import Markup

from lab.report import read_run
from lab.report.bars import Bar, BarChart, BarGroup
from lab.report.page import templates
from lab.report.palette import topology_style
from lab.report.picture import AnyChart, chart_markup
from lab.report.scales import linear
from lab.report.sections import timeline as timelines
from lab.runs import RunResult
from lab.workshop.flow import Flow, draw_flow

_templates = templates.overlay(loader=ChoiceLoader([PackageLoader("lab.workshop"), PackageLoader("lab.report")]))
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


def beside(*figures: Figure) -> Figure:
    """One figure with several, one below the other."""
    body = Markup("").join(
        Markup('<p class="heading-line">{}</p>{}<figcaption>{}</figcaption>').format(
            each.title, each.body, each.caption
        )
        for each in figures
    )
    return Figure("", body)


def guesses(title: str, unit: str, guess: Mapping[str, float | None], measured: Mapping[str, float]) -> Figure:
    """A figure of guesses beside measurements, a group for each topology; without a guess, only the measurement."""
    groups = []
    for name, value in measured.items():
        guessed = guess.get(name)
        bars = [] if guessed is None else [Bar("your guess", "failed", guessed, text=_three_digits(guessed))]
        groups.append(BarGroup(name, [*bars, Bar("measured", topology_style(name), value, text=_three_digits(value))]))
    values = [bar.value for group in groups for bar in group.bars]
    axis = linear(unit, max(values) or 1.0, low=min(values))
    missing = [name for name in measured if guess.get(name) is None]
    reminder = f"No guess yet for {', '.join(missing)}: next time, guess first." if missing else ""
    return show(BarChart(title, axis, groups), reminder)


def _three_digits(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _is_number(cell: object) -> bool:
    return str(cell).replace(",", "").replace(".", "").replace("−", "").strip().isdigit()
