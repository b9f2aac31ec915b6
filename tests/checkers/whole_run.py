"""The evidence of a good run that has every subject, so that every checker judges it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lab.checkers import Abilities, Driver, Evidence, FaultEffect, FaultWindow, ProbeAnswer, RevisionInForce
from lab.history.questions import Question, Questions
from tests.checkers.builders import (
    HEADERS,
    STEP_NS,
    arrivals_of,
    best_first,
    copies_of,
    copy_arrivals_of,
    items_of,
    make_evidence,
    make_table,
    obey,
    planned_of,
)

USERS, REQUESTS = 40, 4_000
_OPTIONS: dict[str, Any] = {
    "topology": "mesh",
    "caller": "homepage",
    "payload_bytes": 400,
    "seed": 0,
    "users": 1_000,
    "timeout_s": 10.0,
    "tear_every": 0,
    "drivers": 1,
    "streams": 10,
    "contexts": {"device": ["tv", "phone"]},
}
_AT_RATE: dict[str, Any] = {"rate": 50.0, "duration_s": 10.0}
ASKED: dict[str, Any] = {
    "form": 1,
    "words": ["load", "--topology=mesh", "--rate", "50", "--duration", "10"],
    "options": {
        **_OPTIONS,
        **_AT_RATE,
        "arrivals": "poisson",
        "use_cases": [],
        "edge_every": 10,
        "as_drawn": True,
        "own_edge_cases": False,
    },
}
PLANNED: dict[str, Any] = {
    **_OPTIONS,
    "arrivals": {"kind": "poisson", "seed": 0, **_AT_RATE},
    "use_cases": [{"name": "Rows", "api": "ranking.v1"}],
    "edge_every": 10,
    "edge_cases": [{"use_case": "Rows", "context": {"user_id": "u7"}}],
}
RESOLVER, SIDECAR = "homepage-resolver", "homepage-sidecar"


def whole_run() -> Evidence:
    """All that a table can say, one retry, and a revision that changes it while 40 users ask again and again."""
    shadows = ({"use": "rows@v4", "percent": percent} for percent in (20, 100))
    settings = {"breaker": {"requests": 1_000}, "retries": {"on": ["internal"]}}
    tables = [
        make_table({"rows@v1": one, "rows@v2": 100 - one}, shadow=shadow, **settings)
        | {"tenants": {"default": {"rate": 1_000}}}
        for one, shadow in zip((50, 100), shadows, strict=True)
    ]
    half = REQUESTS // 2
    records = [
        obey(tables[number // half], number, user_id=f"u{number % USERS}", revision=1 + number // half, tenant="kids")
        for number in range(REQUESTS)
    ]
    records = [replace(each, replica=f"{each.cluster}-{each.sequence // USERS % 2}") for each in records]
    records[:2] = [items_of(each, best_first(each)) for each in records[:2]]
    change = records[half].intended_ns
    *_, last = arrivals_of(records)
    failed = last._replace(replica=f"{records[-1].cluster}-0", arrived_ns=last.arrived_ns - 1, status="INTERNAL")
    records[-1] = replace(records[-1], attempts=2)
    asking = [each for number, each in enumerate(records) if number % half < USERS]
    return make_evidence(
        records,
        fault_windows=[FaultWindow("z-0 killed", "z-0", 0, 1, effect=FaultEffect(("z-0",), 0, 1))],
        revisions=[
            RevisionInForce(1, tables[0], 0, change, 1, kept=tables[0]),
            RevisionInForce(2, tables[1], change, None, change + 1),
        ],
        topology="mesh",
        caller="homepage",
        timeout_s=1.0,
        plan=planned_of(records),
        probes=[ProbeAnswer(RESOLVER, change + 1, change + 2, 2)],
        abilities=Abilities(
            reports=("routing_key", "revision", "attempts", "shadow"),
            retries=True,
            limits_rates=True,
            breaks=True,
            between=("sidecar",),
            marks_path=True,
            asks=("resolver",),
            leases=True,
            lease_s=30,
            stale_s=60,
            deadlines=True,
            headers=HEADERS.split(),
        ),
        path_units={"sidecar": [SIDECAR], "resolver": [RESOLVER]},
        questions=Questions([Question(each.request_id, RESOLVER, each.sent_ns) for each in asking], {RESOLVER: 0}),
        arrivals=[
            *arrivals_of(records),
            failed,
            *copy_arrivals_of([each for each in records if each.shadow], "rows.v4"),
        ],
        copies=copies_of({"rows.v4": [record.request_id for record in records if record.shadow]}, records),
        copies_dropped={SIDECAR: 1},
        announced={},
        asked_for=ASKED,
        plan_document=PLANNED,
        drivers=[Driver(name="one", clock_ms=0.0, clock_error_ms=0.1, drift_ms=0.0, silent_s=1.0, problem="")],
        window_ns=(records[0].intended_ns, records[-1].done_ns + STEP_NS),
    )
