"""Judges a run while it goes on, by the same checkers, from what its folder and the lab hold by then."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from lab.clock import is_fixed, lab_time_ns, lab_time_of
from lab.errors import LabNotRunningError, RunError
from lab.runs.documents import Window
from lab.runs.drive import save_lab
from lab.runs.evidence import evidence_of
from lab.runs.folder import PLAN, TRACE, RunFolder
from lab.runs.judging import RunResult, judged

if TYPE_CHECKING:
    from lab.checkers import Evidence
    from lab.runs.drive import RunContext

_OF_BEGINNING = (PLAN, TRACE, RunFolder.planned.name, RunFolder.revisions.name)


def judge_so_far(folder: Path, context: RunContext) -> RunResult:
    """Returns the verdicts on the longest beginning of a run's plan whose requests have all ended.

    What models received is known only at the end: verdicts that need it are unknown until then.

    Args:
        folder: of a run that goes on.
        context: the lab.

    Raises:
        RunError: the run has ended, or a file cannot be read.
        LabNotRunningError: the control plane does not answer.
    """
    run = RunFolder(folder)
    if not run.spools:
        raise RunError(f"{folder}: no driver writes its records; see `lab check` for a run that is over")
    records = run.spooled()
    with TemporaryDirectory(prefix="lab-interim-") as temporary, run.intact():
        interim = RunFolder(Path(temporary))
        for name in _OF_BEGINNING:
            if (folder / name).exists():
                shutil.copyfile(folder / name, interim.path / name)
        from_ns = lab_time_of((folder / PLAN).stat().st_mtime_ns)
        interim.window = Window(from_ns, lab_time_ns(), one_clock=is_fixed())
        save_lab(interim, context, records, [], from_ns=from_ns)
        if interim.missing:
            raise LabNotRunningError(*interim.missing.values())
        return judged(folder, beginning(evidence_of(interim, records)))


def beginning(evidence: Evidence) -> Evidence:
    """Returns the evidence of the longest beginning of the plan whose requests have all ended.

    Without a plan, as with interactive load, it is that of all requests that have ended.
    """
    plan = evidence.plan
    if plan is None:
        return replace(evidence, planned=len(evidence.records))
    ended = {record.sequence for record in evidence.records}
    count = next((number for number in range(len(plan.requests)) if number not in ended), len(plan.requests))
    if count < len(plan.requests):
        plan = replace(plan, requests=plan.requests[:count], duration_ns=plan.requests[count].offset_ns)
    records = [record for record in evidence.records if record.sequence < count]
    return replace(evidence, records=records, plan=plan, planned=count, offered_rate=plan.offered_rps)
