"""The page: all sections in one file that needs no other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from lab.errors import RunError
from lab.report.blast_radius import TITLE
from lab.report.comparison import compare_runs
from lab.report.cost import QUESTION, charts, cost
from lab.report.outline import outline
from lab.report.sections import SECTIONS
from lab.report.sections.blast_radius import BENCH, blasts
from lab.report.templating import templates

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lab.report.bench import ReportedBench
    from lab.report.run import ReportedRun

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
    yield "outline", "Verdicts", outline(runs, benches)
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
    for name, module in SECTIONS.items() if runs else ():
        yield name, module.TITLE, module.view(runs)
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
