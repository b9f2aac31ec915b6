"""Records and revisions of runs to report on."""

from __future__ import annotations

from typing import Any

from lab.history import UNSENT, Record
from models.scoring import scores

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


def make_record(sequence: int, *, latency_ms: float = 1.0, **changes: Any) -> Record:
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
