"""Driving load through a lab that is up: plan, drive, keep the evidence, judge."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import InputError, UnitError
from lab.load.arrivals import ArrivalOptions, parse_arrivals
from lab.load.plan import LoadPlan, UseCase
from lab.load.progress import Progress
from lab.runs import folder as run_folder
from lab.runs.events import keep_events
from lab.runs.locustfile import LocustOptions, locust_plan_of
from lab.runs.shadow_evidence import has_shadow, keep_copies

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Any

    from lab.admin import RevisionInfo
    from lab.client import Endpoints
    from lab.history import Record
    from lab.roles import Unit
    from lab.runs.folder import RunResult
    from lab.runtime import Runtime
    from lab.runtime.cancellation import CancelToken
    from lab.runtime.state import LabState

# A population in which every rule of the default route table applies to somebody.
DEFAULT_CONTEXTS: Mapping[str, tuple[str, ...]] = {
    "device": ("tv", "phone", "web"),
    "country": ("US", "CA", "DE", "FR", "IN"),
    "segment": ("adults", "kids"),
    "surface": ("home_page",),
    "tenant": ("consumer",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What load to drive.

    Attributes:
        topology: the way from caller to model.
        caller: in whose name.
        use_cases: what for; all that the caller may ask for if empty.
        rate: requests per second, where the arrivals have no times of their own.
        duration_s: seconds, likewise.
        arrivals: ``poisson``, ``constant`` or ``trace:FILE``.
        speedup: how many times faster than recorded a trace is played.
        limit: how many requests of a trace to play; None for all.
        payload_bytes: size of feature vectors, where the arrivals bring none.
        users: size of the population.
        contexts: values of context fields that are drawn from.
        seed: of all draws.
        timeout_s: after which a request is given up.
        tear_every: of so many requests one is torn on purpose; 0 for none.
        processes: of the driver, which share the requests.
        endpoints: instead of what stands beside the caller.
        locust: how Locust is to drive it; None for the open loop.
    """

    topology: str
    caller: str
    use_cases: tuple[str, ...] = ()
    rate: float = 100.0
    duration_s: float = 10.0
    arrivals: str = "poisson"
    speedup: float = 1.0
    limit: int | None = None
    payload_bytes: int = 400
    users: int = 1_000
    contexts: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: DEFAULT_CONTEXTS)
    seed: int = 0
    timeout_s: float = 10.0
    tear_every: int = 0
    processes: int = 1
    endpoints: Endpoints | None = None
    locust: LocustOptions | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A lab, as runs are driven through it.

    Attributes:
        state: what the lab is.
        runtime: carries drivers out.
        runs: folder of this lab's runs.
        units: folder of its units' logs, in that of the lab.
        document: route table in force, which says who may ask for what.
        revisions: asked after a run for the route tables that had not been replaced by a time (Unix nanoseconds), and
            for those of the numbers named; each with its fate.
        replicas: asked after a run for the model replicas, if there was a shadow.
    """

    state: LabState
    runtime: Runtime
    runs: Path
    units: Path
    document: Mapping[str, Any]
    revisions: Callable[[int, Collection[int]], list[RevisionInfo]]
    replicas: Callable[[], list[Unit]]


def drive(
    options: LoadOptions, stage: Stage, progress: Callable[[Progress], None], cancel_token: CancelToken | None = None
) -> RunResult:
    """Drives one run and returns what it shows.

    Args:
        options: what load.
        stage: the lab.
        progress: told once a second how it goes.
        cancel_token: cancels it from another thread.

    Raises:
        InputError: the options fit neither lab nor route table.
        UnitError: the driver did not come to its end.
    """
    folder = run_folder.folder_of_now(stage.runs)
    plan = plan_for(options, stage)
    ui_port = None if plan.locust is None else plan.locust.ui_port
    run_folder.make(folder)
    run_folder.keep_plan(folder, plan)
    from_ns = time.time_ns()
    status = stage.runtime.run_driver(
        folder, options.caller, lambda line: progress(Progress.from_line(line)), ui_port, cancel_token
    )
    records = keep_evidence(folder, stage, from_ns=from_ns)
    keep_surroundings(folder, stage)
    return judged(folder, status, records)


def plan_for(options: LoadOptions, stage: Stage) -> LoadPlan:
    """What the driver of a run is told; nothing is made yet.

    Raises:
        InputError: the options fit neither lab nor route table, or there is something wrong with a trace.
    """
    plan = LoadPlan(
        topology=options.topology,
        caller=options.caller,
        use_cases=_use_cases(options, stage.document),
        arrivals=parse_arrivals(
            options.arrivals,
            ArrivalOptions(
                rate=options.rate,
                duration_s=options.duration_s,
                seed=options.seed,
                speedup=options.speedup,
                limit=options.limit,
            ),
        ),
        endpoints=options.endpoints or stage.state.plan.callers[options.caller],
        spool=Path(run_folder.SPOOL),
        summary=Path(run_folder.DRIVER),
        payload_bytes=options.payload_bytes,
        seed=options.seed,
        users=options.users,
        contexts=options.contexts,
        timeout_s=options.timeout_s,
        tear_every=options.tear_every,
        locust=None if options.locust is None else locust_plan_of(options.locust),
        processes=options.processes,
    )
    if plan.scheduled:
        plan.schedule()  # a bad trace is said before anything is made
    return plan


def keep_evidence(folder: Path, stage: Stage, *, from_ns: int) -> list[Record]:
    """Keeps, in a run's folder, all that it is to be judged by, and returns the history.

    Args:
        folder: of the run.
        stage: the lab.
        from_ns: when the run began, Unix nanoseconds.
    """
    records = run_folder.keep_history(folder)
    keep_events(folder, stage.units.parent, from_ns=from_ns)
    named = {number for record in records for number in (record.revision, record.served_revision)}
    tables = stage.revisions(from_ns - run_folder.SETTLING_NS, named)
    run_folder.keep_revisions(folder, tables)
    if has_shadow(tables, records):
        keep_copies(folder, stage.replicas(), records)
    return records


def keep_surroundings(folder: Path, stage: Stage) -> None:
    """Keeps, in a run's folder, logs and whatever else may explain what was seen."""
    stage.runtime.fetch_logs(stage.state.plan.units)
    run_folder.keep_surroundings(folder, stage.state, stage.units, stage.runtime.versions())


def judged(folder: Path, status: int, records: Sequence[Record] | None = None) -> RunResult:
    """Judges a run whose evidence is kept, and leaves the summary beside it.

    Args:
        folder: of the run.
        status: the driver's exit status.
        records: the history that is kept, for whoever has it at hand.

    Raises:
        UnitError: the driver did not come to its end.
    """
    if status and not (folder / run_folder.DRIVER).exists():
        raise UnitError(f"the driver ended with status {status}; what it sent until then is in {folder}")
    result = run_folder.judge(folder, records)
    run_folder.write_summary(result)
    return result


def _use_cases(options: LoadOptions, document: Mapping[str, Any]) -> tuple[UseCase, ...]:
    known = document["use_cases"]
    names = options.use_cases or tuple(name for name, entry in known.items() if options.caller in entry["callers"])
    for name in names:
        if name not in known:
            raise InputError(f"--use-case: {name!r} is not in the route table; there are {', '.join(known)}")
    if not names:
        raise InputError(f"--caller: {options.caller} may ask for no use case: add it to one's `callers` and publish")
    return tuple(UseCase(name, known[name]["api"]) for name in names)
