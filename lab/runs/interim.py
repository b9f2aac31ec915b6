"""Judges a run while it goes on, by the same checkers, from what its folder and the lab hold by then."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from lab.errors import RunError
from lab.history import read_spool
from lab.runs import folder as run_folder
from lab.runs.events import save_events
from lab.runs.evidence import SETTLING_NS, evidence_of
from lab.runs.folder import intact, plan_of
from lab.runs.judging import RunResult, judged
from lab.runs.published import save_published
from lab.runs.registrations import save_registrations

if TYPE_CHECKING:
    from lab.checkers import Evidence
    from lab.runs.drive import RunContext

_OF_BEGINNING = (run_folder.PLAN, run_folder.PLANNED, run_folder.TRACE, run_folder.REVISIONS)


def judge_so_far(folder: Path, context: RunContext) -> RunResult:
    """Returns the verdicts on the longest beginning of a run's plan whose requests have all ended.

    What models received is known only at the end: verdicts that need it are unknown until then.

    Args:
        folder: of a run that goes on.
        context: the lab.

    Raises:
        RunError: the run has ended, or a file cannot be read.
    """
    spools = run_folder.spools_in(folder)
    if not spools:
        raise RunError(f"{folder}: no driver writes its records; see `lab check` for a run that is over")
    records = [record for spool in spools for record in read_spool(spool)]
    with TemporaryDirectory(prefix="lab-interim-") as temporary, intact(folder):
        interim = Path(temporary)
        for name in _OF_BEGINNING:
            if (folder / name).exists():
                shutil.copyfile(folder / name, interim / name)
        from_ns = (folder / run_folder.PLAN).stat().st_mtime_ns
        run_folder.save_window(interim, from_ns=from_ns, until_ns=time.time_ns())
        run_folder.save_spec(interim, context.state)
        save_events(interim, context.units.parent, from_ns=from_ns)
        named = {number for record in records for number in (record.revision, record.served_revision)}
        tables = context.revisions(from_ns - SETTLING_NS, named)
        numbers = run_folder.save_revisions(interim, tables)
        save_registrations(interim, [], context.registrations(), asked_ns=from_ns)
        save_published(interim, context.units.parent, numbers)
        return judged(folder, beginning(evidence_of(interim, plan_of(interim), records)))


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
