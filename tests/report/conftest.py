from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from lab.client import Endpoints
from lab.history import UNSENT, Record, write_parquet
from lab.load.arrivals import Constant
from lab.load.plan import LoadPlan, UseCase, write_plan
from lab.runs.events import RUN_EVENTS, Event
from lab.runs.folder import HISTORY, PLAN, REVISIONS
from models.scoring import scores

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

START_NS = 1_700_000_000_000_000_000
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


def make_one_record(sequence: int, *, latency_ms: float = 1.0, **changes: Any) -> Record:
    """The n-th of 200 requests per second, answered as the rules say unless ``changes`` say otherwise."""
    intended = START_NS + sequence * 5 * MS
    values: dict[str, Any] = {
        **dict.fromkeys(("device", "country", "segment", "surface", "tenant", "message"), ""),
        "sequence": sequence,
        "request_id": f"r{sequence}",
        "topology": "mesh",
        "caller": "homepage",
        "use_case": "Rows",
        "user_id": "u1",
        "traffic_origin": "artificial",
        "payload_bytes": 400,
        "intended_ns": intended,
        "sent_ns": intended,
        "done_ns": intended + round(latency_ms * MS),
        "status": "OK",
        "source": "model",
        "routing_key": "rows.v1",
        "revision": 1,
        "model": "rows",
        "version": "v1",
        "cluster": "a",
        "replica": f"a-{sequence % 2}",
        "served_revision": 1,
        "attempts": 1,
        "item_id": "t01",
        "seen_origin": changes.get("traffic_origin", "artificial"),
        "seen_tenant": changes.get("tenant", ""),
        **changes,
    }
    if values["status"] == UNSENT:
        values |= {"sent_ns": 0, "done_ns": 0}
    if values["status"] != "OK":
        values |= dict.fromkeys(("source", "routing_key", "model", "version", "cluster", "replica", "item_id"), "")
        values |= {"seen_origin": "", "seen_tenant": ""}
        return Record(score=0.0, **values)
    return Record(score=scores(values["model"], values["version"], "u1", ["t01"])[0], **values)


@pytest.fixture(name="make_record")
def fixture_make_record() -> Callable[..., Record]:
    return make_one_record


@pytest.fixture(name="make_run")
def fixture_make_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes the folder of a run of two seconds with 400 requests, as `lab load` leaves it."""

    def make(
        records: Sequence[Record] | None = None,
        *,
        name: str = "20231114T221320.000Z",
        topology: str = "mesh",
        revisions: Sequence[dict[str, Any]] = (make_revision(1, loaded=1, converged=2),),
        events: Sequence[Event] = (),
        versions: Mapping[str, str] = VERSIONS,
        **plan_changes: Any,
    ) -> Path:
        folder = tmp_path / "runs" / "lab" / name
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
        write_parquet([make_one_record(each) for each in range(400)] if records is None else records, folder / HISTORY)
        (folder / REVISIONS).write_text(json.dumps(revisions))
        (folder / "versions.json").write_text(json.dumps(versions))
        (folder / RUN_EVENTS).write_text(json.dumps([asdict(event) for event in events]))
        return folder

    return make


@pytest.fixture(name="revision")
def fixture_revision() -> Callable[..., dict[str, Any]]:
    return make_revision
