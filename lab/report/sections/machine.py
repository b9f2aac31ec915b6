"""The machine and software of the runs, which only compare if these are the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.report.run import ReportedRun

NAME = "machine"
TITLE = "Machine"


@dataclass(frozen=True, slots=True)
class Ground:
    """Runs on the same machine and software."""

    runs: Sequence[ReportedRun]
    versions: Mapping[str, str]


def view(runs: Sequence[ReportedRun]) -> tuple[Ground, ...]:
    """One for each set of versions, in the order of the runs."""
    grounds: list[tuple[Mapping[str, str], list[ReportedRun]]] = []
    for run in runs:
        for versions, sharing in grounds:
            if versions == run.versions:
                sharing.append(run)
                break
        else:
            grounds.append((run.versions, [run]))
    return tuple(Ground(sharing, versions) for versions, sharing in grounds)
