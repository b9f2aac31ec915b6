"""Runs several load drivers that share a run, each in its own pod, as an indexed Job.

This machine coordinates them: one process for each pod executes the driver in it, over the API server, and has its
input and output.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from lab import PYTHON
from lab.load.plan import PLAN_FILE, LoadPlan
from lab.plugins.kubernetes import exec_relay
from lab.plugins.kubernetes.api import PASSING_ERRORS, Api
from lab.plugins.kubernetes.copying import bring_back, put
from lab.plugins.kubernetes.load_job import INDEX_VARIABLE
from lab.plugins.kubernetes.naming import DRIVER, Manifest
from lab.plugins.kubernetes.pod_status import waits_for
from lab.plugins.kubernetes.pods import RUNS
from lab.registry import PLUGINS
from lab.runtime.driver_files import files_for, plugins_in
from lab.runtime.driver_process import coordinate_from_here
from lab.waiting import eventually

if TYPE_CHECKING:
    from lightkube.resources.core_v1 import Pod

    from lab.runtime.cancellation import CancelToken

_STARTED_WITHIN = timedelta(minutes=5)  # nodes may have to pull the image
_LETTERS = 8


def job_name(run: Path) -> str:
    """Name of the Job of a run; the run's own is too long for the names of its pods."""
    return f"{DRIVER}-{hashlib.sha256(str(run).encode()).hexdigest()[:_LETTERS]}"


@contextmanager
def load_pods(api: Api, name: str, job: Sequence[Manifest]) -> Iterator[list[Pod]]:
    """The pods of drivers, in the order of their parts; they run for the duration of the body.

    Args:
        api: of the lab.
        name: of the Job.
        job: its objects.

    Raises:
        UnitError: a pod cannot start.
    """
    [count] = [each["spec"]["completions"] for each in job if each["kind"] == "Job"]
    try:
        api.apply(job)

        def missing() -> list[str]:
            found = api.pods_of_job(name)
            waiting = {_name(each): waits_for(each, DRIVER) for each in found}
            absent = [f"{count - len(found)} of {count} pods"] if len(found) < count else []
            return [*absent, *(f"{pod} ({reason})" for pod, reason in waiting.items() if reason)]

        eventually(
            f"pods of Job {name} run (still missing)", missing, within=_STARTED_WITHIN, until=lambda names: not names
        )
        yield api.pods_of_job(name)
    finally:
        api.delete(job)


def run_drivers(
    api: Api,
    lab: Path,
    pods: Sequence[Pod],
    run: Path,
    plan: LoadPlan,
    on_line: Callable[[str], None],
    *,
    errors: TextIO,
    cancel_token: CancelToken,
) -> int:
    """Runs the drivers to their end, copies their records into the run's folder; returns the coordinator's exit status.

    Args:
        api: of the lab.
        lab: the lab's folder.
        pods: of the drivers, in the order of their parts.
        run: folder with the plan.
        plan: the plan.
        on_line: called with each line of progress.
        errors: file that gets the drivers' standard error.
        cancel_token: cancels the drivers from another thread.
    """
    files = files_for(run)
    for pod in pods:
        put(api, _name(pod), run.name, files)
    count, folder = len(pods), f"{RUNS}/{run.name}"
    share = f'exec python -m lab.load.shard {folder}/{PLAN_FILE} "${INDEX_VARIABLE}/{count}"'
    command = ["env", f"{PLUGINS}={plugins_in(folder)}", "sh", "-c", share]
    relay = [*PYTHON, "-m", exec_relay.__name__, str(lab)]
    status = coordinate_from_here(
        run,
        [
            (f"driver {number + 1} of {count} in pod {_place(pod)}", [*relay, _name(pod), *command])
            for number, pod in enumerate(pods)
        ],
        on_line,
        errors=errors,
        cancel_token=cancel_token,
    )
    for number, pod in enumerate(pods):
        with suppress(*PASSING_ERRORS):  # its pod is gone; the summary names it
            bring_back(api, _name(pod), f"{run.name}/{plan.spool_of(number).name}", run.parent)
    return status


def _name(pod: Pod) -> str:
    assert pod.metadata is not None  # noqa: S101 (the API server names each)
    return str(pod.metadata.name)


def _place(pod: Pod) -> str:
    node = pod.spec.nodeName if pod.spec is not None else None
    return f"{_name(pod)} on {node}" if node else _name(pod)
