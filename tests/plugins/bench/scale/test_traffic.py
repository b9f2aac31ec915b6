"""Recorded traffic of a scale run is judged as any run: also by whether something explains each failure."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from lab.checkers import Driver, Outcome, ProbeAnswer, RevisionInForce
from lab.client import Endpoints
from lab.history import Record
from lab.load.arrivals import Constant
from lab.load.plan import LoadPlan, UseCase
from lab.plugins.bench.scale.traffic import Traffic, judge
from lab.routing.schema import CONTEXT_FIELDS
from lab.runs.evidence import planned_in
from lab.runs.folder import RunFolder
from tests.checkers.builders import START_NS, STEP_NS, make_record, two_versions

CALLERS = ("homepage", "search")
ASKED = {"payload_bytes", "use_case", "user_id", *CONTEXT_FIELDS} - {"caller"}
NUMBER = 40
UNAVAILABLE = {"status": "UNAVAILABLE", "message": "routing key 'rows.v1': "}


def plan_of(caller: str) -> LoadPlan:
    return LoadPlan(
        topology="mesh",
        caller=caller,
        use_cases=(UseCase("Rows", "ranking.v1"),),
        arrivals=Constant(1e9 / STEP_NS, NUMBER * STEP_NS / 1e9),
        endpoints=Endpoints(),
        spool=Path("spool.jsonl"),
        summary=Path("driver.json"),
    )


@cache
def planned(caller: str) -> Sequence[dict[str, Any]]:
    """What each request of a caller asks, by its plan."""
    with TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))
        run.plan = plan_of(caller)
        plan = planned_in(run)
    assert plan
    fields = [each._asdict() for each in plan.requests]
    return [{name: value for name, value in each.items() if name in ASKED} for each in fields]


def recorded(**of_one: Any) -> dict[str, list[Record]]:
    """All requests of both callers, of which one is different."""
    records = {
        caller: [
            make_record(number, request_id=f"{caller}-{number:08x}", caller=caller, seen_origin="artificial", **asked)
            for number, asked in enumerate(planned(caller))
        ]
        for caller in CALLERS
    }
    fields = {"request_id": "search-00000007", "seen_origin": "artificial", **planned("search")[7], **of_one}
    records["search"][7] = make_record(7, caller="search", **fields)
    return records


def table(**changes: Any) -> RevisionInForce:
    document = two_versions()
    document["use_cases"]["Rows"] |= {"callers": list(CALLERS), **changes}
    return RevisionInForce(1, document, START_NS - 1_000_000_000, None, START_NS - 900_000_000)


def judged(records: dict[str, list[Record]], *tables: RevisionInForce, **options: Any) -> Traffic:
    with TemporaryDirectory() as home:
        folders = {caller: Path(home) / caller for caller in CALLERS}
        for caller, folder in folders.items():
            folder.mkdir()
            RunFolder(folder).plan = plan_of(caller)
        return judge(folders, records, tables, **options)


def outcomes(records: dict[str, list[Record]], *tables: RevisionInForce, **options: Any) -> dict[str, Outcome]:
    traffic = judged(records, *tables, **options)
    return {each.checker: each.outcome for each in traffic.verdicts} | {"all": traffic.outcome}


def test_traffic_that_was_answered_is_valid() -> None:
    found = outcomes(recorded(), table())

    assert (found["answered"], found["all"]) == (Outcome.VALID, Outcome.VALID)


def test_one_failure_that_nothing_explains_makes_the_run_invalid() -> None:
    found = outcomes(recorded(**UNAVAILABLE), table())

    assert (found["answered"], found["all"]) == (Outcome.INVALID, Outcome.INVALID)


def test_a_request_that_the_plan_has_not_makes_the_run_invalid() -> None:
    assert outcomes(recorded(user_id="u-other"), table())["asked"] is Outcome.INVALID


def test_a_resolver_that_never_follows_makes_the_run_invalid() -> None:
    before = replace(table(), until_ns=START_NS)
    after = RevisionInForce(2, {**table().document, "models": {}}, START_NS, None, START_NS)
    stale = [ProbeAnswer("shared-resolver", START_NS + 1_000_000, START_NS + 2_000_000, 1)]

    assert outcomes(recorded(), replace(before, converged_ns=1), after, probes=stale)["convergence"] is Outcome.INVALID


def test_a_refusal_that_the_table_asks_for_is_explained() -> None:
    refused = recorded(status="PERMISSION_DENIED")
    only_one = table(callers=["homepage"])
    records = {
        "homepage": refused["homepage"],
        "search": [
            replace(
                refused["search"][7],
                sequence=each.sequence,
                request_id=each.request_id,
                intended_ns=each.intended_ns,
                sent_ns=each.sent_ns,
                done_ns=each.done_ns,
            )
            for each in refused["search"]
        ],
    }

    assert outcomes(records, only_one)["answered"] is Outcome.VALID


def test_failures_are_counted_by_status_and_message() -> None:
    traffic = judged(recorded(**UNAVAILABLE), table())

    assert traffic.failures == {"UNAVAILABLE: routing key 'rows.v1': ": 1}
    assert (traffic.summary.ok, traffic.summary.failed) == (2 * NUMBER - 1, 1)


@pytest.mark.parametrize(("problem", "outcome"), [("", Outcome.VALID), ("was killed by SIGKILL", Outcome.UNKNOWN)])
def test_a_driver_that_was_lost_leaves_the_run_open(problem: str, outcome: Outcome) -> None:
    drivers = [Driver(name="driver 1", clock_ms=0.0, clock_error_ms=0.1, drift_ms=0.0, silent_s=1.0, problem=problem)]

    found = outcomes(recorded(), table(), drivers=drivers)

    assert (found["drivers"], found["all"]) == (outcome, outcome)
