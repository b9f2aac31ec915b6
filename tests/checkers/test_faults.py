"""Models show whether a fault was at work."""

from __future__ import annotations

import pytest

from lab.checkers import FaultEffect, FaultWindow
from lab.checkers.kinds import faults
from lab.checkers.kinds.faults import LEAST
from lab.history.arrivals import Arrival
from tests.checkers.builders import START_NS, make_evidence, make_record

S, MS = 1_000_000_000, 1_000_000
FROM_NS, UNTIL_NS = START_NS + S, START_NS + 21 * S
WAY = "2 gateway (gateway-1; parsed), 2 sidecar (a-0)"


def judged(effect: FaultEffect, *took: Arrival) -> str:
    """Judges a run in which requests failed, and these arrived."""
    records = [make_record(number, status="UNAVAILABLE") for number in range(max(len(took), 1))]
    arrivals = [each._replace(request_id=record.request_id) for each, record in zip(took, records, strict=False)]
    marked = FaultWindow("a-0 hit", "a-0", START_NS, None, effect=effect)
    verdict = faults.check(make_evidence(records, fault_windows=[marked], arrivals=arrivals))
    assert verdict is not None
    assert all("nothing happened when a-0 was hit" in each.message for each in verdict.violations)
    return verdict.outcome


def arrival(at_ns: int, replica: str = "a-0", via: str = "", *, took_ms: int = 1, status: str = "OK") -> Arrival:
    return Arrival("", replica, "rows.v1", False, "", "", at_ns, at_ns + took_ms * MS, status, via)  # noqa: FBT003


@pytest.mark.parametrize(
    ("took", "outcome"),
    [
        (arrival(FROM_NS + 6 * MS), "invalid"),
        (arrival(FROM_NS - 1), "valid"),
        (arrival(UNTIL_NS), "valid"),
        (arrival(FROM_NS + 6 * MS, "b-0"), "valid"),
        (arrival(FROM_NS + 6 * S, "b-0", WAY), "invalid"),
        (arrival(FROM_NS + 4 * S, "b-0", WAY), "valid"),
    ],
)
def test_what_is_dead_takes_no_request(took: Arrival, outcome: str) -> None:
    assert judged(FaultEffect(("a-0",), FROM_NS, UNTIL_NS), took) == outcome


@pytest.mark.parametrize(
    ("count", "took_ms", "slowest_ms", "outcome"),
    [(LEAST, 2, 2, "invalid"), (LEAST, 2, 50, "valid"), (LEAST - 1, 2, 2, "valid"), (LEAST, 100, 100, "valid")],
)
def test_what_is_slowed_takes_its_time(count: int, took_ms: int, slowest_ms: int, outcome: str) -> None:
    effect = FaultEffect(("a-0", "b-0"), FROM_NS, UNTIL_NS, adds_ms=100.0)
    fast = [arrival(FROM_NS + S, took_ms=took_ms)] * (count - 1)

    assert judged(effect, *fast, arrival(FROM_NS + S, took_ms=slowest_ms)) == outcome
    assert judged(effect, *[arrival(FROM_NS + S, "c-0")] * LEAST) == "valid"


@pytest.mark.parametrize(
    ("share", "count", "last", "outcome"),
    [
        (0.5, 20, "OK", "invalid"),
        (0.5, 19, "OK", "valid"),
        (0.5, 20, "INTERNAL", "valid"),
        (0.5, 20, "CANCELLED", "valid"),
        (1.0, 1, "OK", "invalid"),
    ],
)
def test_what_fails_a_share_fails_some(share: float, count: int, last: str, outcome: str) -> None:
    effect = FaultEffect(("a-0",), FROM_NS, UNTIL_NS, fails_share=share)
    took = [arrival(FROM_NS + S)] * (count - 1)

    assert judged(effect, *took, arrival(FROM_NS + S, status=last)) == outcome


def test_without_such_a_fault_or_without_what_models_received_nothing_is_said() -> None:
    marked = FaultWindow("a-0 hit", "a-0", START_NS, None, effect=FaultEffect(("a-0",), FROM_NS, UNTIL_NS))

    assert faults.check(make_evidence([make_record(0)], fault_windows=[marked], arrivals=None)) is None
    assert faults.check(make_evidence([make_record(0)], arrivals=[])) is None
