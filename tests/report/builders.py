"""Records, revisions and folders of runs to report on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.client import Endpoints
from lab.history import Record
from lab.history.arrivals import Arrivals
from lab.load.arrivals import Constant
from lab.load.plan import LoadPlan, UseCase, write_plan
from lab.routing import headers
from lab.runs.events import Event
from lab.runs.folder import PLAN, RunFolder
from lab.topologies import TOPOLOGIES
from tests.checkers import builders

START_NS = builders.START_NS
MS = 1_000_000
VERSIONS = {"grpcio": "1.85.3", "kernel": "6.1"}

DOCUMENT = {
    "use_cases": {"Rows": {"callers": ["homepage"], "api": "ranking.v1", "timeout": "250ms", "default": "rows@v1"}},
    "models": {"rows": {"versions": {"v1": {"cluster": "a"}, "v2": {"cluster": "a"}}}},
    "clusters": {"a": {"replicas": 2}},
}


def make_revision(number: int, **steps: int) -> dict[str, Any]:
    at = [{"phase": phase, "at_ns": at_ns, "detail": ""} for phase, at_ns in steps.items()]
    return {"revision": number, "document": DOCUMENT, "steps": at}


def make_record(sequence: int, *, latency_ms: float = 1.0, **changes: Any) -> Record:
    """The n-th of 200 requests per second, answered as the rules say unless ``changes`` say otherwise."""
    intended = START_NS + sequence * 5 * MS
    usual: dict[str, Any] = {
        "user_id": "u1",
        "traffic_origin": "artificial",
        "seen_origin": "artificial",
        "intended_ns": intended,
        "sent_ns": intended,
        "done_ns": intended + round(latency_ms * MS),
        "replica": f"a-{sequence % 2}",
    }
    return builders.make_record(sequence, **{**usual, **changes})


def write_run(
    home: Path,
    records: Sequence[Record] | None = None,
    *,
    name: str = "20231114T221320.000Z",
    topology: str = "mesh",
    revisions: Sequence[dict[str, Any]] = (make_revision(1, loaded=1, converged=2),),
    events: Sequence[Event] = (),
    versions: Mapping[str, str] = VERSIONS,
    **plan_changes: Any,
) -> Path:
    """Writes the folder of a run of two seconds with 400 requests, as `lab load` leaves it."""
    folder = home / "runs" / "lab" / name
    folder.mkdir(parents=True)
    values: dict[str, Any] = {
        "topology": topology,
        "caller": "homepage",
        "use_cases": (UseCase("Rows", "ranking.v1"),),
        "arrivals": Constant(200, 2.0),
        "endpoints": Endpoints(),
        "spool": folder / "history.jsonl",
        "summary": folder / "driver.json",
        **plan_changes,
    }
    plan = LoadPlan(**values)
    write_plan(plan, folder / PLAN)
    records = [make_record(each) for each in range(400)] if records is None else records
    run = RunFolder(folder)
    run.history = records
    form = headers.PARSED if TOPOLOGIES[plan.topology].capabilities.reads_payload else ""
    via = ", ".join(headers.via(role, role, form) for role in TOPOLOGIES[plan.topology].between)
    run.arrivals = Arrivals(builders.arrivals_of(records, via), {})
    run.revisions, run.versions, run.events = revisions, versions, events
    return folder
