"""The page: all sections, filled and joined to one file that needs no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.errors import RunError
from lab.report.picture import drawing_of
from lab.report.sections import SECTIONS
from lab.report.templating import templates

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lab.report.bench import ReportedBench
    from lab.report.run import ReportedRun


def render(runs: Sequence[ReportedRun], benches: Sequence[ReportedBench] = ()) -> str:
    """The report as HTML: style and charts are inside, and there is no script."""
    sections = [(name, module.TITLE, module.view(runs)) for name, module in SECTIONS.items() if runs]
    subjects = [f"bench {bench.name}" for bench in benches] + [f"run {run.label}" for run in runs]
    page = templates.get_template("page.html")
    return page.render(subjects=subjects, benches=benches, drawing_of=drawing_of, sections=sections)


def write_report(runs: Sequence[ReportedRun], path: Path, benches: Sequence[ReportedBench] = ()) -> None:
    """Writes the report.

    Raises:
        RunError: the file cannot be written.
    """
    try:
        path.write_text(render(runs, benches), encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}; name another with --output") from error
