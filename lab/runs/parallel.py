"""Several runs at the same time: one driver each, side by side in one folder.

::

    runs/<lab>/<utc>/
        <topology>-<caller>/    a run's folder, see lab.runs.folder; each can be judged and shown by itself
        <topology>-<caller>.log what its driver complained of
        together.json           names of the runs
        units/  sidecars/  spec.json  versions.json    what surrounded all of them
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from lab.checkers import Outcome, combine
from lab.errors import InputError, RunError
from lab.load.progress import Progress
from lab.runs import folder as run_folder
from lab.runs.drive import judged, keep_evidence, keep_surroundings, plan_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path
    from typing import Any

    from lab.load.plan import LoadPlan
    from lab.runs.drive import LoadOptions, Stage
    from lab.runs.folder import RunResult
    from lab.runtime.cancellation import CancelToken

TOGETHER = "together.json"


@dataclass(frozen=True, slots=True)
class TogetherResult:
    """What several runs at the same time came to.

    Attributes:
        folder: holds those of the runs.
        runs: in the order in which they were asked for.
    """

    folder: Path
    runs: tuple[RunResult, ...]

    @property
    def outcome(self) -> Outcome:
        """Of all verdicts of all runs together."""
        return combine([verdict for run in self.runs for verdict in run.verdicts])

    def to_document(self) -> dict[str, Any]:
        """As ``--json`` has it."""
        return {
            "run_dir": str(self.folder),
            "verdict": str(self.outcome),
            "runs": [run.to_document() for run in self.runs],
        }


def runs_in(folder: Path) -> list[Path]:
    """The run folders that a folder stands for: those that were driven together in it, else itself.

    Raises:
        RunError: the list of those runs cannot be read.
    """
    path = folder / TOGETHER
    if not path.exists():
        return [folder]
    names = run_folder.read_json(path)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise RunError(f"{path}: no list of runs; name the folder of runs that were driven together")
    return [folder / name for name in names]


def drive_together(
    options: Sequence[LoadOptions],
    stage: Stage,
    progress: Callable[[Mapping[str, Progress]], None],
    cancel_token: CancelToken,
) -> TogetherResult:
    """Drives several runs at the same time, and returns what they show.

    Args:
        options: one a run; no two of the same topology and caller.
        stage: the lab.
        progress: told how each run goes, by its name; from several threads, but never at the same time as itself.
        cancel_token: cancels all runs; so does Ctrl-C if this is called on the main thread.

    Raises:
        InputError: options fit neither lab nor route table, or do not go together; nothing was driven.
        UnitError: a driver did not come to its end; the others were broken off.
    """
    plans = _plans(options, stage)
    folder = run_folder.folder_of_now(stage.runs)
    run_folder.make(folder)
    (folder / TOGETHER).write_text(json.dumps(list(plans)))
    for name, plan in plans.items():
        (folder / name).mkdir()
        run_folder.keep_plan(folder / name, plan)
    from_ns = time.time_ns()
    seen: dict[str, Progress] = {}
    one_at_a_time = Lock()

    def carry_out(name: str, plan: LoadPlan) -> int:
        def tell(line: str) -> None:
            with one_at_a_time:
                seen[name] = Progress.from_line(line)
                progress(dict(seen))

        status = 1
        try:
            with (folder / f"{name}.log").open("w") as errors:  # not in its own: a container's is written over
                status = stage.runtime.run_driver(
                    folder / name, plan.caller, tell, cancel_token=cancel_token, errors=errors
                )
        finally:
            if status:
                cancel_token.cancel()
        return status

    with ThreadPoolExecutor(max_workers=len(plans)) as pool:
        drivers = {name: pool.submit(carry_out, name, plan) for name, plan in plans.items()}
        _wait(list(drivers.values()), cancel_token)
    for name in drivers:
        keep_evidence(folder / name, stage, from_ns=from_ns)
        run_folder.keep_card(folder / name, stage.state, stage.runtime.versions())
    keep_surroundings(folder, stage)
    return TogetherResult(folder, tuple(judged(folder / name, driver.result()) for name, driver in drivers.items()))


def _plans(options: Sequence[LoadOptions], stage: Stage) -> dict[str, LoadPlan]:
    if not options:
        raise InputError("--caller: nobody is to send; name one or more callers")
    plans: dict[str, LoadPlan] = {}
    for each in options:
        name = f"{each.topology}-{each.caller}"
        if name in plans:
            raise InputError(f"--caller: {each.caller} is named twice; name each once")
        if each.locust is not None:
            raise InputError("--engine: Locust drives one caller at a time; name one, or leave --engine out")
        plans[name] = plan_for(each, stage)
    return plans


def _wait(drivers: Sequence[Future[int]], cancel_token: CancelToken) -> None:
    """Returns when all drivers have ended; Ctrl-C breaks them off."""
    while True:
        try:
            wait(drivers)
        except KeyboardInterrupt:
            cancel_token.cancel()
        else:
            return
