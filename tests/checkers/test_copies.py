from __future__ import annotations

from dataclasses import replace
from typing import Any

from lab.checkers import Evidence, RevisionInForce, Verdict
from lab.checkers.kinds import copies
from lab.history.arrivals import Arrival
from tests.checkers.builders import copies_of, make_evidence, make_table, obey

TABLE = make_table(shadow={"use": "rows@v4", "percent": 100})
REQUESTS = [obey(TABLE, number) for number in range(400)]


def judge(arrived: int, *, took_ns: int, **changes: Any) -> Verdict | None:
    """Of 400 requests, one every few milliseconds, this many copies arrived, and took so long."""
    came = REQUESTS[:arrived]
    received = [
        Arrival(each.request_id, "d-a", "rows.v4", True, "", "", each.sent_ns, each.sent_ns + took_ns, "OK")  # noqa: FBT003
        for each in came
    ]
    evidence: Evidence = make_evidence(
        REQUESTS,
        revisions=[RevisionInForce(1, TABLE, from_ns=0)],
        copies=copies_of({"rows.v4": frozenset(each.request_id for each in came)}),
        copies_dropped={"gateway-1": len(REQUESTS) - arrived, "gateway-2": 0},
    )
    return copies.check(replace(evidence, arrivals=received, **changes))


def test_copies_dropped_while_128_are_in_flight_are_counted() -> None:
    verdict = judge(copies.BOUND, took_ns=10**12)
    assert verdict is not None
    assert verdict.outcome == "valid"
    assert "dropped, with those of other requests: 272 by gateway-1, all" in verdict.summary


def test_copies_dropped_while_fewer_are_in_flight_are_violations() -> None:
    verdict = judge(copies.BOUND - 1, took_ns=10**12)
    assert verdict is not None
    assert (verdict.outcome, len(verdict.violations)) == ("invalid", 273)
    assert "with 127 in flight at most; units may have 128" in verdict.violations[0].message

    verdict = judge(copies.BOUND, took_ns=1)  # the first ones are over when the last are dropped
    assert verdict is not None
    assert verdict.outcome == "invalid"


def test_a_run_whose_units_dropped_none_has_nothing_to_judge() -> None:
    assert judge(400, took_ns=1) is None
    assert judge(399, took_ns=1, copies_dropped=None) is None
    assert judge(399, took_ns=1, copies_dropped={"gateway-1": None}) is None
    assert judge(399, took_ns=1, copies=None) is None
