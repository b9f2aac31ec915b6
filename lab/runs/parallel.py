"""Drives several runs at the same time, with one driver each, in one folder.

::

    runs/<lab>/<utc>/
        <topology>-<caller>/    a run's folder, see lab.runs.folder; each can be judged and shown by itself
        <topology>-<caller>.log errors of its driver
        together.json           names of the runs, and seal.json for it
        units/  sidecars/  spec.json  versions.json    of all runs
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from lab.checkers import Claim, Outcome, worst
from lab.errors import InputError, LabError, RunError
from lab.load.progress import Progress
from lab.runs.asked import asked_of
from lab.runs.documents import Began
from lab.runs.drive import judge_run, plan_for, problem_of_driver, save_evidence, save_plan, save_surroundings
from lab.runs.folder import PLAN, TOGETHER, RunFolder, create, new_run_folder
from lab.runs.load_metrics import counting
from lab.runs.seal import provide_key, seal, verify
from lab.runs.unit_evidence import probing
from lab.runs.version import machine_versions

if TYPE_CHECKING:
    from lab.load.plan import LoadPlan
    from lab.runs.drive import LoadOptions, RunContext
    from lab.runs.judging import Objectives, RunResult
    from lab.runtime.cancellation import CancelToken


@dataclass(frozen=True, slots=True)
class ParallelResult:
    """The results of runs at the same time.

    Attributes:
        folder: that contains those of the runs.
        runs: in the order of their options.
    """

    folder: Path
    runs: tuple[RunResult, ...]

    @property
    def outcome(self) -> Outcome:
        """The worst outcome of all runs."""
        return worst(run.outcome for run in self.runs)

    @property
    def claims(self) -> dict[Claim, Outcome]:
        """The worst outcome of each claim."""
        return {claim: worst(run.claims[claim] for run in self.runs) for claim in Claim}

    def to_document(self) -> dict[str, Any]:
        """Returns it as a JSON object."""
        return {
            "run_dir": str(self.folder),
            "verdict": str(self.outcome),
            "claims": {str(claim): str(outcome) for claim, outcome in self.claims.items()},
            "runs": [run.to_document() for run in self.runs],
        }


def runs_in(folder: Path) -> list[Path]:
    """Returns the folders of the parallel runs in a folder, or the folder itself if it holds one run.

    Raises:
        RunError: there is no run, or the list of those runs cannot be read, or was changed since.
    """
    run = RunFolder(folder)
    if not (folder / TOGETHER).exists():
        if not (folder / PLAN).exists():
            raise RunError(f"{folder}: there is no run; `lab runs` lists them, and `lab load` makes one")
        return [folder]
    verify(run)
    return [folder / name for name in run.together]


def drive_parallel(
    options: Sequence[LoadOptions],
    context: RunContext,
    progress: Callable[[Mapping[str, Progress]], None],
    cancel_token: CancelToken,
) -> ParallelResult:
    """Drives several runs at the same time, and returns their results.

    Args:
        options: one a run; no two of the same topology and caller.
        context: the lab.
        progress: called with the progress of each run, by name; from several threads, one call at a time.
        cancel_token: cancels all runs. On the main thread, Ctrl-C does the same.

    Raises:
        InputError: options do not fit the lab, its route table or each other; nothing was driven.
        UnitError: a driver failed, this one before all others; the other runs were cancelled. Their evidence is saved.
    """
    plans = _plans(options, context)
    folder = new_run_folder(context.runs)
    create(folder)
    RunFolder(folder).together = list(plans)
    runs = {name: RunFolder(folder / name) for name in plans}
    for (name, plan), asked in zip(plans.items(), options, strict=True):
        runs[name].path.mkdir()
        runs[name].asked = asked_of(asked)
        save_plan(runs[name], plan, context)
    registered = context.registrations()
    began = Began.now()
    seen: dict[str, Progress] = {}
    lock = Lock()
    problems: list[Exception] = []

    def execute(name: str, plan: LoadPlan, count: Callable[[Progress], None]) -> int:
        def report(line: str) -> None:
            with lock:
                seen[name] = Progress.from_line(line)
                count(seen[name])
                progress(dict(seen))

        status = 1
        try:
            # Beside its folder, in which a container's log would overwrite it.
            run, table = runs[name], runs[name].revisions[-1].document or {}
            with probing(run, context.state, plan, table), (folder / f"{name}.log").open("w") as errors:
                status = context.runtime.run_driver(
                    folder / name, plan.caller, report, cancel_token=cancel_token, errors=errors
                )
            if problem := problem_of_driver(runs[name], status):
                problems.append(problem)
        except Exception as error:  # noqa: BLE001 (raised below, once evidence is saved)
            problems.append(error)
        finally:
            if status:
                cancel_token.cancel()
        return status

    with counting(context.state.plan.load_metrics) as of_run, ThreadPoolExecutor(max_workers=len(plans)) as pool:
        drivers = {
            name: pool.submit(execute, name, plan, of_run(plan.topology, plan.caller)) for name, plan in plans.items()
        }
        wait_for(drivers.values(), cancel_token)
    save = partial(save_evidence, context=context, registered=registered, began=began)
    ended = [
        (runs[name], driver.result(), each.objectives)
        for (name, driver), each in zip(drivers.items(), options, strict=True)
    ]
    try:
        results = _judged(RunFolder(folder), ended, context, save)
    except (LabError, OSError) as error:
        if not problems:
            raise
        raise problems[0] from error
    if problems:
        raise problems[0]
    return ParallelResult(folder, tuple(results))


def _judged(
    together: RunFolder,
    runs: Sequence[tuple[RunFolder, int, Objectives]],
    context: RunContext,
    save: Callable[[RunFolder], object],
) -> list[RunResult]:
    """Saves and seals what there is of all runs, and returns the results of those whose drivers came to their end.

    Args:
        together: the folder of all runs.
        runs: each run, its driver's exit status, and what is asked of it.
        context: the lab.
        save: saves the evidence of a run.
    """
    for run, _, _ in runs:
        save(run)
        run.versions = machine_versions(context.runtime.versions())
    close(together, context)
    key = provide_key(context.units.parent)
    results = []
    for run, status, objectives in runs:
        if problem_of_driver(run, status):
            seal(run, key)
        else:
            results.append(judge_run(run, status, objectives, key))
    return results


def close(together: RunFolder, context: RunContext) -> None:
    """Saves what runs of the same time have in common, and seals their folder."""
    save_surroundings(together, context)
    together.spec = context.spec
    seal(together, provide_key(context.units.parent))


def _plans(options: Sequence[LoadOptions], context: RunContext) -> dict[str, LoadPlan]:
    if not options:
        raise InputError("--caller: name one or more callers")
    plans: dict[str, LoadPlan] = {}
    for each in options:
        name = f"{each.topology}-{each.caller}"
        if name in plans:
            raise InputError(f"--caller: {each.caller} is named twice; name each once")
        if not (each.engine.as_drawn or each.engine.paced_by):
            raise InputError(f"--engine: {each.engine.name} drives one caller at a time; name one, or leave it out")
        plans[name] = plan_for(each, context)
    return plans


def wait_for(drivers: Iterable[Future[Any]], cancel_token: CancelToken) -> None:
    """Returns when all drivers have ended; Ctrl-C cancels them."""
    drivers = list(drivers)
    while True:
        try:
            wait(drivers)
        except KeyboardInterrupt:
            cancel_token.cancel()
        else:
            return
