"""The report: all sections as a page in one file that needs no other, and its charts as PNG files."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from lab.errors import RunError
from lab.measure.findings import written
from lab.report import palette
from lab.report.broken_replicas import reached
from lab.report.comparison import compare_runs
from lab.report.conditions import in_words
from lab.report.cost import QUESTION, Cost, charts, cost
from lab.report.fault_reach import BENCH, TITLE, BlastView, blasts
from lab.report.headline import Answer, answer
from lab.report.picture import AnyChart, chart_markup, file_name, scripts, to_svg, write_pictures
from lab.report.sections import SECTIONS

if TYPE_CHECKING:
    from lab.report.bench import ReportedBench
    from lab.report.run import ReportedRun

_LONG = 100


def _short(value: float) -> str:
    """An end of an interval, with two decimals below 100."""
    return "∞" if math.isinf(value) else f"{value:,.0f}" if value >= _LONG else f"{value:.2f}"


def _code(text: str) -> Markup:
    """Text with what stands between backticks as code; no line ends within an option, as at its hyphens."""
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"(?<= )--[\w-]+", r'<span class="named">\g<0></span>', marked))  # noqa: S704 (escaped before)


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
templates.filters["code"] = _code
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

_TWO, _MANY, _MOST_DOUBTS = 2, 4, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One section of the page.

    Attributes:
        name: of its template, and its anchor.
        view: the value that the template gets.
        gist: a few words beside its title.
        open: whether it is unfolded at first.
    """

    name: str
    title: str
    view: Any
    gist: str = ""
    open: bool = False


def render(runs: Sequence[ReportedRun], benches: Sequence[ReportedBench] = ()) -> str:
    """The report as HTML, including its styles, charts and scripts."""
    subjects = _subjects(runs, benches)
    found, radii = cost(runs, benches), blasts(runs, benches)
    top = answer(runs, benches, found, radii)
    body = templates.get_template("sections.html").render(
        subjects=subjects,
        top=top,
        most_doubts=_MOST_DOUBTS,
        reached=reached(runs),
        sections=list(_sections(runs, _without(benches, top), found, radii, top)),
    )
    page = templates.get_template("page.html")
    return page.render(subjects=subjects, body=Markup(body))  # noqa: S704 (a template has escaped it)


def _subjects(runs: Sequence[ReportedRun], benches: Sequence[ReportedBench]) -> str:
    """What the report is about, as its title: ``Gateway and mesh, 2 runs``."""
    named = {"bench": [bench.name for bench in benches], "run": [run.plan.topology for run in runs]}
    parts = []
    for what, names in named.items():
        different = list(dict.fromkeys(names))
        listed = ", ".join(different[:-1]) + f" and {different[-1]}" if len(different) > 1 else "".join(different)
        if len(different) > _MANY:
            listed = f"{len(different)} {'topologies' if what == 'run' else 'benches'}"
        if names:
            many = "es" if what == "bench" else "s"
            parts.append(f"{listed}, {len(names)} {what}{many * (len(names) > 1)}")
    return "; ".join(parts)[:1].upper() + "; ".join(parts)[1:]


def _without(benches: Sequence[ReportedBench], top: Answer) -> list[ReportedBench]:
    """The benches without the charts at the top, and without what the section on blast radii shows."""
    return [
        replace(each, tables=(), charts=())
        if each.name == BENCH
        else replace(each, charts=[chart for chart in each.charts if not _is_shown(chart, top)])
        for each in benches
    ]


def _is_shown(chart: AnyChart, top: Answer) -> bool:
    return any(shown.chart is chart for shown in top.charts)


def _sections(
    runs: Sequence[ReportedRun],
    benches: Sequence[ReportedBench],
    found: Cost,
    radii: Sequence[BlastView],
    top: Answer,
) -> Iterator[_Part]:
    """The sections, in the order of the page."""
    outcomes = Counter(str(run.result.outcome) for run in runs)
    gist = ", ".join(f"{count} {outcome}" if len(runs) > 1 else outcome for outcome, count in outcomes.items())
    yield _Part(name="outline", title="Verdicts", view=(runs, benches), gist=gist)
    if radii:
        yield _Part(name="blast", title=TITLE, view=[(each, not _is_shown(each.chart, top)) for each in radii])
    if found.tables or found.refusals:
        view = (found, list(charts(found)))
        yield _Part(name="cost", title=QUESTION, view=view, open=any(table.bench for table in found.tables))
    if len(runs) == _TWO:
        yield _Part(name="comparison", title="The two runs, figure by figure", view=compare_runs(runs[0], runs[1]))
    of_benches = _Part(
        name="benches", title="Benches", view=benches, gist="; ".join(f"{each.name}: {each.counts}" for each in benches)
    )
    for name, section in SECTIONS.items() if runs else ():
        yield _Part(name=name, title=section.title, view=section.view(runs))
        if name == _AFTER and benches:
            yield of_benches
    if benches and not runs:
        yield of_benches


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
