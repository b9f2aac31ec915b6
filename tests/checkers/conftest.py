from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lab.checkers import Evidence, RevisionInForce
from lab.history import UNSENT, Record
from models.scoring import scores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

START_NS = 1_700_000_000_000_000_000
STEP_NS = 1_000_000
LATENCY_NS = 400_000


@pytest.fixture
def document() -> dict[str, Any]:
    """Phones get v1 on cluster a, televisions v2 on cluster b; only homepage may ask."""
    return {
        "use_cases": {
            "Rows": {
                "callers": ["homepage"],
                "api": "ranking.v1",
                "timeout": "250ms",
                "default": "rows@v1",
                "rules": [{"name": "tv", "when": {"device": ["tv"]}, "use": "rows@v2"}],
            }
        },
        "models": {"rows": {"versions": {"v1": {"cluster": "a"}, "v2": {"cluster": "b"}}}},
        "clusters": {"a": {"replicas": 1}, "b": {"replicas": 1}},
    }


@pytest.fixture
def make_record() -> Callable[..., Record]:
    """A good record of the plan's n-th request; the score is that of whoever is said to have answered."""

    def make(sequence: int = 0, **changes: Any) -> Record:
        intended = START_NS + sequence * STEP_NS
        record = Record(
            sequence=sequence,
            request_id=f"r{sequence}",
            topology="mesh",
            caller="homepage",
            use_case="Rows",
            user_id=f"u{sequence}",
            device="phone",
            country="DE",
            segment="",
            surface="",
            tenant="",
            traffic_origin="real",
            payload_bytes=400,
            intended_ns=intended,
            sent_ns=intended + 10_000,
            done_ns=intended + LATENCY_NS,
            status="OK",
            message="",
            source="model",
            routing_key="rows.v1",
            revision=1,
            model="rows",
            version="v1",
            cluster="a",
            replica="a-0",
            served_revision=1,
            attempts=1,
            item_id="t01",
            score=0.0,
        )
        record = replace(record, **changes)
        if record.status == UNSENT:
            record = replace(record, sent_ns=0, done_ns=0)
        if record.status != "OK":
            nobody: dict[str, Any] = {
                "model": "",
                "version": "",
                "cluster": "",
                "replica": "",
                "item_id": "",
                "score": 0.0,
            }
            return replace(record, source="", routing_key="", **nobody)
        if "score" not in changes:
            proof = scores(record.model, record.version, record.user_id, [record.item_id])[0]
            record = replace(record, score=proof)
        return record

    return make


@pytest.fixture
def make_evidence(document: dict[str, Any]) -> Callable[..., Evidence]:
    """Evidence in which revision 1 was in force all the time, unless said otherwise."""

    def make(records: Sequence[Record], **changes: Any) -> Evidence:
        evidence = Evidence(
            records=records,
            revisions=[RevisionInForce(1, document, from_ns=0)],
            planned=len(records),
            offered_rate=1e9 / STEP_NS,
        )
        return replace(evidence, **changes)

    return make
