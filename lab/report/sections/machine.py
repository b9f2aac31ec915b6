"""The machine and software of the runs, which only compare if these are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.report.run import ReportedRun


def view(runs: Sequence[ReportedRun]) -> list[tuple[Mapping[str, str], list[ReportedRun]]]:
    """Each set of versions with its runs, in the order of the runs."""
    distinct: list[Mapping[str, str]] = []
    for run in runs:
        if run.versions not in distinct:
            distinct.append(run.versions)
    return [(versions, [run for run in runs if run.versions == versions]) for versions in distinct]
