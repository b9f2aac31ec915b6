"""A run's folder: plan, evidence, figures and verdicts of one run. A judge needs nothing else.

::

    runs/<lab>/<utc>/
        …                   the files of :class:`RunFolder`, and those that the plan's engine needs
        seal.json           digests of all these, signed
        history.jsonl       spool of a driver, until the run ends
        units/<unit>/       logs
        sidecars/           each Envoy's config_dump and stats
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from lab import reading
from lab.checkers.plain_schedule import PlannedRequest
from lab.errors import InputError, RouteTableError, RunError
from lab.history import read_columns, read_parquet, read_spool, write_parquet
from lab.history.arrivals import Arrivals, read_arrivals, write_arrivals
from lab.history.parquet import RowFormat
from lab.history.questions import Questions, read_questions, write_questions
from lab.load.arrivals import Trace
from lab.load.engines import engine_before_names
from lab.load.plan import read_plan, write_plan
from lab.load.summary import latency_histogram
from lab.measure.latency import LatencyHistogram
from lab.runs import documents
from lab.runs.events import events_of

if TYPE_CHECKING:
    from lab.client.admin_values import RevisionInfo
    from lab.history import Record
    from lab.load.plan import LoadPlan

T = TypeVar("T")

SPOOL = "history.jsonl"
PLAN, DRIVER, TRACE, HISTORY, TOGETHER = "plan.json", "driver.json", "trace.csv", "history.parquet", "together.json"

MALFORMED = (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError)
"""Errors of code that takes apart a document of another shape."""

_GATHERED = "gathered-{}.json"
_REQUIRED: Any = object()
_PLANNED = RowFormat(PlannedRequest, "planned requests")


class File(Generic[T]):
    """A file of a run's folder, as an attribute of :class:`RunFolder` that reads it; to set the attribute writes it.

    Args:
        name: of the file.
        holds: what is in it, for people.
        since: the first release that writes it, and where that is not today's, the last.
        read: returns the file's content.
        write: writes it.
        absent: content where there is no such file, as in runs of earlier releases; without it, that is an error.
        older: its name in runs from before version 1.0.

    Raises:
        RunError: on reading, the file is missing, cannot be read, or holds something else.
    """

    def __init__(
        self,
        name: str,
        holds: str,
        since: str,
        read: Callable[[Path], T],
        write: Callable[[Path, Any], object] = Path.write_text,
        *,
        absent: T = _REQUIRED,
        older: str = "",
    ) -> None:
        self.name, self.holds, self.since, self.absent = name, holds, since, absent
        self._read, self._write, self._older = read, write, older

    @overload
    def __get__(self, run: None, owner: type) -> Self: ...
    @overload
    def __get__(self, run: RunFolder, owner: type) -> T: ...
    def __get__(self, run: RunFolder | None, owner: type) -> Self | T:
        if run is None:
            return self
        path = run.path / self.name
        if self.absent is not _REQUIRED and not path.exists():
            path = run.path / self._older
            if not self._older or not path.exists():
                return self.absent
        try:
            return self._read(path)
        except (RouteTableError, *MALFORMED) as error:
            raise RunError(f"{path}: no {self.holds}; name the folder of a finished run") from error

    def __set__(self, run: RunFolder, content: Any) -> None:
        self._write(run.path / self.name, content)


def _json(
    name: str, holds: str, since: str, parse: Callable[[Any], T], *, indent: int | None = None, **how: Any
) -> File[T]:
    def write(path: Path, content: object) -> None:
        path.write_text(json.dumps(content, default=_fields, indent=indent))

    return File(name, holds, since, lambda path: parse(read_json(path)), write, **how)


def _fields(value: object) -> dict[str, Any]:
    """Returns a dataclass as a mapping; ``asdict`` would copy route tables, of which there may be hundreds."""
    if not is_dataclass(value):
        raise TypeError(f"{value!r} has no JSON form")
    return {each.name: getattr(value, each.name) for each in fields(value)}


def _save_plan(path: Path, plan: LoadPlan) -> None:
    """Writes a plan, with copies of its trace and of the files that its engine needs."""
    if isinstance(plan.arrivals, Trace):
        shutil.copyfile(plan.arrivals.path, path.with_name(TRACE))
        plan = replace(plan, arrivals=replace(plan.arrivals, path=TRACE))
    for name, source in plan.engine.files.items():
        shutil.copyfile(source, path.with_name(name))
    write_plan(replace(plan, engine=replace(plan.engine, files={name: Path(name) for name in plan.engine.files})), path)


def _lines(path: Path) -> Iterator[str]:
    try:
        with TextIOWrapper(reading.open_regular(path), encoding="utf-8-sig", newline="") as file:
            yield from file
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}; name the folder of a finished run") from error


def _names(document: Any) -> Sequence[str]:
    if not isinstance(document, list) or not document or not all(isinstance(name, str) for name in document):
        raise TypeError
    return document


class RunFolder:
    """A run's folder: the driver writes it, the seal closes it, and :func:`lab.runs.judge` reads it.

    Args:
        path: of the folder, which may be missing, or have been moved.
    """

    plan = File(PLAN, "plan of the load", "0.1", lambda path: read_plan(path, engine_before_names), _save_plan)
    asked = _json("asked.json", "what was asked for", "1.3", documents.asked_of, absent=None)
    plan_document = _json(PLAN, "plan of the load", "0.1", dict[str, Any])
    planned: File[list[PlannedRequest] | None] = File(
        "planned.parquet",
        "requests to be sent, by the checkers' own reading of the plan",
        "1.1",
        lambda path: _PLANNED.rows(_PLANNED.table(path)),
        _PLANNED.write,
        absent=None,
    )
    trace = File(TRACE, "trace that was played", "0.1", _lines)
    driver = _json(DRIVER, "summary of a driver", "0.1", documents.driver_of, absent=documents.DriverCounts())
    history = File(HISTORY, "records, one a request", "0.1", read_parquet, lambda path, it: write_parquet(it, path))
    columns = File(HISTORY, "records, one a request", "0.1", read_columns)
    latencies = File(
        "latency.hdr", "histogram of the latencies", "0.1", LatencyHistogram.read, lambda path, it: it.write(path)
    )
    revisions = _json("revisions.json", "list of revisions", "0.1", documents.revisions_of)
    published = _json("published.json", "texts of route tables", "1.1", documents.published_of, absent={})
    arrivals: File[Arrivals | None] = File(
        "arrivals.parquet", "requests that replicas received", "1.1", read_arrivals, write_arrivals, absent=None
    )
    questions: File[Questions | None] = File(
        "questions.parquet", "questions that resolvers were asked", "1.3", read_questions, write_questions, absent=None
    )
    path_units = _json("units.json", "units on the path by role", "1.3", documents.units_of, absent={})
    copies = _json("copies.json", "lists of copies by routing key", "0.2 to 1.0", documents.copies_of, absent=None)
    copies_error = File("copies.error", "reason for a lack of copies", "0.2 to 1.0", Path.read_text, absent="")
    events = _json("events.json", "list of events", "0.5", events_of, absent=(), indent=1, older="marks.json")
    registrations = _json(
        "registrations.json", "registrations of replicas", "1.1", documents.registrations_of, absent=None
    )
    probes = _json("probes.json", "answers to probes", "1.1", documents.probes_of, absent=())
    dropped: File[Mapping[str, int | None] | None] = _json(
        "dropped.json", "counts of dropped copies", "1.3", documents.dropped_of, absent=None
    )
    expected = _json("expected.json", "checkers that must speak, and why", "1.3", documents.texts_of, absent={})
    announced: File[Mapping[str, str] | None] = _json(
        "announced.json", "prefixes of ids, by whom", "1.3", documents.texts_of, absent=None
    )
    window = _json(
        "window.json", "beginning and end of a run", "1.1", documents.window_of, absent=documents.Window(0, 0)
    )
    missing = _json("missing.json", "list of missing evidence", "1.3", documents.texts_of, absent={})
    receipt_keys: File[Mapping[str, str]] = _json(
        "receipt-keys.json", "keys of receipts by sender", "1.3", documents.texts_of, absent={}
    )
    spec = _json("spec.json", "spec of a lab", "0.1", documents.spec_of, absent={}, indent=1)
    versions = _json("versions.json", "versions by name", "0.1", documents.texts_of, indent=1)
    summary = _json("summary.json", "figures and verdicts", "0.1", dict[str, Any], indent=1)
    together = _json(TOGETHER, "list of runs of the same time", "0.4", _names, absent=())

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def sealed(self) -> list[str]:
        """Names of all files that are sealed where they exist, those of the plan's engine among them."""
        try:
            files = [*map(str, self.plan_document["engine"]["files"])]
        except (RunError, *MALFORMED):  # a run from before plans named their engine, or none
            files = []
        return [*EVIDENCE, *files, *sorted(each.name for each in self.path.glob(_GATHERED.format("*")))]

    @property
    def gathered(self) -> dict[str, Any]:
        """What checkers have gathered, by their names; to set it writes a file each."""
        before, after = _GATHERED.split("{}")
        files = self.path.glob(_GATHERED.format("*"))
        return {each.name.removeprefix(before).removesuffix(after): read_json(each) for each in files}

    @gathered.setter
    def gathered(self, found: Mapping[str, Any]) -> None:
        for checker, document in found.items():
            (self.path / _GATHERED.format(checker)).write_text(json.dumps(document))

    def gathered_by(self, checker: str) -> Any:
        """What one checker has gathered; None if it has nothing."""
        file = self.path / _GATHERED.format(checker)
        return read_json(file) if file.exists() else None

    @property
    def spools(self) -> list[Path]:
        """The spools of the run's drivers; none once their records are saved."""
        spool = Path(SPOOL)
        return sorted(self.path.glob(f"{spool.stem}*{spool.suffix}"), key=lambda each: (len(each.name), each.name))

    def spooled(self) -> list[Record]:
        """Returns the records in the spools."""
        return [record for spool in self.spools for record in read_spool(spool)]

    def save_history(self) -> list[Record]:
        """Writes the run's history from its spools, even if their drivers were killed; returns the records."""
        spools, records = self.spools, self.spooled()
        self.history, self.latencies = records, latency_histogram(records)
        for spool in spools:
            spool.unlink()
        return records

    def add_revisions(self, revisions: Iterable[RevisionInfo]) -> list[int]:
        """Writes revisions with those that the folder already has; returns the numbers of all, in their order."""
        known = {each.revision: each for each in (*self.revisions, *revisions)}
        self.revisions = [known[number] for number in sorted(known)]
        return sorted(known)

    @contextmanager
    def intact(self) -> Iterator[None]:
        """Raises RunError for what code raises that meets, in the folder, values of another kind than it wrote."""
        try:
            yield
        except RunError:
            raise
        except InputError as error:  # such as a topology that is not known here
            raise RunError(f"{self.path}: {error}") from error
        except MALFORMED as error:
            raise RunError(
                f"{self.path}: its files do not fit each other ({type(error).__name__}: {error}); restore them"
            ) from error


FILES = {each.name: each for each in vars(RunFolder).values() if isinstance(each, File)}
"""The files of a run's folder, by name."""

EVIDENCE = tuple(FILES)
"""The files that are sealed, besides those of the run's engine; see :attr:`RunFolder.sealed`."""


def require_free(plan: LoadPlan) -> None:
    """Raises InputError if a file of the plan's engine has the name of a file of every run."""
    if taken := sorted(plan.engine.files.keys() & {*EVIDENCE, SPOOL}):
        raise InputError(f"engine {plan.engine.name}: {taken[0]} is a file of every run; rename the engine's")


def new_run_folder(runs: Path) -> Path:
    """Returns a folder, not yet created, for a run that begins now; two runs never get the same one."""
    return runs / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def create(folder: Path) -> None:
    """Creates a run's folder, and points the link ``latest`` beside it to it."""
    folder.mkdir(parents=True)
    new = folder.parent / f"latest.{folder.name}"
    new.symlink_to(folder.name)
    new.replace(folder.parent / "latest")  # atomic: another run may begin at the same time


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
