"""The report: all sections as a page in one file that needs no other, and its charts as PNG files."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lab.errors import RunError
from lab.measure.findings import written
from lab.report import palette
from lab.report.blast_radius import BENCH, TITLE, blasts
from lab.report.comparison import compare_runs
from lab.report.conditions import in_words
from lab.report.cost import QUESTION, charts, cost
from lab.report.picture import chart_markup, file_name, scripts, to_svg, write_pictures
from lab.report.sections import SECTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lab.report.bench import ReportedBench
    from lab.report.run import ReportedRun

_LONG = 100


def _short(value: float) -> str:
    """An end of an interval, with two decimals below 100."""
    return "∞" if math.isinf(value) else f"{value:,.0f}" if value >= _LONG else f"{value:.2f}"


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
templates.filters["ms"] = _short
templates.filters["percent"] = lambda share: f"{100 * share:.2f} %"
templates.filters["in_words"] = in_words
templates.globals["light"] = palette.LIGHT
templates.globals["dark"] = palette.DARK
templates.globals["series"] = palette.SERIES
templates.globals["dark_variants"] = palette.dark_variants
templates.filters["colour"] = palette.colour_of
templates.globals["scripts"] = scripts
templates.filters["chart"] = chart_markup

_AFTER = "timeline"
"""Benches follow this section: first runs as a whole, then causes, then details."""

_TWO, _MANY = 2, 4


def render(runs: Sequence[ReportedRun], benches: Sequence[ReportedBench] = ()) -> str:
    """The report as HTML, including its styles, charts and scripts."""
    subjects = [f"bench {bench.name}" for bench in benches] + [f"run {run.label}" for run in runs]
    if len(subjects) > _MANY:
        subjects = [f"{len(of)} {what}" for of, what in ((benches, "benches"), (runs, "runs")) if of]
    body = templates.get_template("sections.html").render(sections=list(_sections(runs, benches)))
    page = templates.get_template("page.html")
    return page.render(subjects=subjects, body=Markup(body))  # noqa: S704 (a template has escaped it)


def _sections(runs: Sequence[ReportedRun], benches: Sequence[ReportedBench]) -> Iterator[tuple[str, str, Any]]:
    """Name, title and view of each section, in the order of the page."""
    yield "outline", "Verdicts", (runs, benches)
    radii = blasts(runs, benches)
    if radii:
        yield "blast", TITLE, radii
        # Its table and chart are not repeated among the benches; its claims are only there.
        benches = [replace(each, tables=(), charts=()) if each.name == BENCH else each for each in benches]
    found = cost(runs, benches)
    if found.tables or found.refusals:
        yield "cost", QUESTION, (found, list(charts(found)))
    if len(runs) == _TWO:
        yield "comparison", "The two runs, figure by figure", compare_runs(runs[0], runs[1])
    for name, section in SECTIONS.items() if runs else ():
        yield name, section.title, section.view(runs)
        if name == _AFTER and benches:
            yield "benches", "Benches", benches
    if benches and not runs:
        yield "benches", "Benches", benches


def write_report(runs: Sequence[ReportedRun], path: Path, benches: Sequence[ReportedBench] = ()) -> None:
    """Writes the report.

    Raises:
        RunError: the file cannot be written.
    """
    try:
        path.write_text(render(runs, benches), encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}; name another with --output") from error


def pictures(runs: Sequence[ReportedRun], benches: Sequence[ReportedBench]) -> Iterator[tuple[str, str]]:
    """Each chart's file name and SVG document. Benches of the same name are numbered."""
    for number, bench in enumerate(benches, 1):
        again = sum(other.name == bench.name for other in benches) > 1
        for chart in bench.charts:
            prefix = f"{bench.name}-{number}" if again else bench.name
            yield f"{prefix}-{file_name(chart)}", to_svg(chart, bench.origin)
    for number, each in enumerate(blasts(runs, ()), 1):
        yield f"{BENCH}-{number}-{file_name(each.chart)}", to_svg(each.chart, each.origin)
    for chart in charts(cost(runs, benches)):
        yield file_name(chart), to_svg(chart)
    for section in SECTIONS.values() if runs else ():
        for chart, origin in section.pictures(runs):
            yield file_name(chart), to_svg(chart, origin)


def write_album(runs: Sequence[ReportedRun], benches: Sequence[ReportedBench], folder: Path) -> list[Path]:
    """Writes every chart of a report as a PNG file, and returns their paths.

    Raises:
        RunError: a file cannot be written.
    """
    return [path for name, svg in pictures(runs, benches) for path in write_pictures(svg, folder / name, (".png",))]
