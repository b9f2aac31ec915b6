"""All that a report shows of one run, read from its folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.errors import RunError
from lab.history import UNSENT, read_parquet
from lab.runs import judge
from lab.runs.folder import HISTORY, REVISIONS, plan_of, read_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lab.history import Record
    from lab.load.plan import LoadPlan
    from lab.runs import RunResult

VERSIONS = "versions.json"


@dataclass(frozen=True, slots=True)
class Rollout:
    """A revision on its way to the nodes.

    Attributes:
        from_ns: when it began to go out, Unix nanoseconds.
        until_ns: when all nodes had it, or had been put back; None if neither had come by the end of the run.
        failed: whether it was the latter.
    """

    revision: int
    from_ns: int
    until_ns: int | None
    failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedRun:
    """One run of a report.

    Attributes:
        number: its place in the report, from 1; the page calls it by this.
        result: figures and verdicts.
        plan: what the driver was told.
        records: the history.
        start_ns: when the schedule started, Unix nanoseconds; 0 if there is no record.
        rollouts: of all revisions that there were, also before and after the run.
        versions: of what it ran on, by name.
    """

    number: int
    result: RunResult
    plan: LoadPlan
    records: Sequence[Record]
    start_ns: int
    rollouts: Sequence[Rollout]
    versions: Mapping[str, str]

    @property
    def label(self) -> str:
        """What figures call it."""
        return f"{self.number} {self.plan.topology}"

    @property
    def style(self) -> str:
        """Class of the style sheet that gives it its colour; there are six, which then come round again."""
        return f"run-{(self.number - 1) % 6 + 1}"

    @property
    def folder(self) -> str:
        """Name of its folder, with that of the lab before it."""
        path = self.result.folder
        return f"{path.parent.name}/{path.name}"

    @property
    def origin(self) -> str:
        """What charts say of where their figures are from."""
        return f"{self.label}, {self.folder}, n = {len(self.sent):,}"

    @property
    def sent(self) -> Sequence[Record]:
        """The records of all requests that were sent."""
        return [record for record in self.records if record.status != UNSENT]


def read_run(folder: Path, *, number: int = 1) -> ReportedRun:
    """Reads, and judges anew, what is in a run's folder.

    Raises:
        RunError: something is missing or cannot be read.
    """
    folder = folder.resolve()  # `latest` is another run tomorrow
    plan = plan_of(folder)
    rollouts = _rollouts(folder / REVISIONS)
    versions = _versions(folder / VERSIONS)
    result = judge(folder)
    records = read_parquet(folder / HISTORY)
    start_ns = records[0].intended_ns - plan.schedule().offsets_ns[records[0].sequence] if records else 0
    return ReportedRun(
        number=number,
        result=result,
        plan=plan,
        records=records,
        start_ns=start_ns,
        rollouts=rollouts,
        versions=versions,
    )


def _rollouts(path: Path) -> tuple[Rollout, ...]:
    result = []
    try:
        for each in read_json(path):
            at = {step["phase"]: int(step["at_ns"]) for step in each["steps"]}
            if "loaded" in at:  # else it never went out
                until = at.get("failed", at.get("converged"))
                result.append(Rollout(int(each["revision"]), at["loaded"], until, "failed" in at))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path}: no list of revisions; name the folder of a finished run") from error
    return tuple(result)


def _versions(path: Path) -> dict[str, str]:
    found = read_json(path)
    if not isinstance(found, dict):
        raise RunError(f"{path}: no versions by name; name the folder of a finished run")
    return {str(name): str(version) for name, version in found.items()}
