from __future__ import annotations

from typing import Any

import pytest

from lab.checkers import RequestMix, Verdict
from lab.checkers.kinds import announced
from lab.history.arrivals import Arrival
from tests.checkers.builders import START_NS, make_evidence, make_record

RECORDS = [make_record(number, request_id=f"1f3a-{number:08x}") for number in range(4)]
KNOWN = {"1f3b": "run 2", "1f3b.0": "run 2", "homepage.77": "unit homepage"}


def judge(*request_ids: str, status: str = "INTERNAL", **changes: Any) -> Verdict | None:
    """Models received all requests of the run, and these."""
    ids = [*(record.request_id for record in RECORDS), *request_ids]
    arrivals = [Arrival(each, "a-1", "rows.v1", False, "", "", START_NS, START_NS + 1, status) for each in ids]  # noqa: FBT003
    mix = RequestMix(use_cases=["Rows"], caller="homepage", users=1, contexts={}, traffic_origin="real")
    known = {"announced": KNOWN, "request_mix": mix, "id_prefix": "1f3a", "offered_rate": 10.0, "planned": len(RECORDS)}
    return announced.check(make_evidence(RECORDS, **{"arrivals": arrivals, **known, **changes}))


def test_requests_of_this_run_and_of_those_who_announced_them_are_counted() -> None:
    verdict = judge("1f3a.warm-up-0", "1f3b-00000007", "1f3b.0-00000002", "homepage.77-00000001")
    assert verdict is not None
    assert (verdict.outcome, verdict.summary) == (
        "valid",
        "2 run 2, 4 this run's, 1 this run's warm-up, 1 unit homepage",
    )


def test_of_many_other_runs_the_largest_are_named() -> None:
    runs = {f"1f3b.{number}": f"run {number}" for number in range(30)}
    verdict = judge(*(f"1f3b.{number}-00000000" for _ in range(30) for number in range(30)), announced=runs)
    assert verdict is not None
    assert verdict.summary.startswith("30 run 0, 30 run 1")
    assert verdict.summary.endswith("4 this run's, 750 of 25 others")


@pytest.mark.parametrize(
    ("request_id", "message"),
    [
        ("aa00-00000001", "aa00-00000001 for rows.v1, which nobody had announced"),
        ("1f3", "1f3 for rows.v1, which nobody had announced"),
        ("1f3ab-00000001", "1f3ab-00000001 for rows.v1, which nobody had announced"),
        ("homepage.78-00000001", "homepage.78-00000001 for rows.v1, which nobody had announced"),
        ("", "a request without an id for rows.v1, which nobody had announced"),
        ("1f3a-00000004", "1f3a-00000004 for rows.v1, which this run did not plan"),
        ("1f3a.3-00000009", "1f3a.3-00000009 for rows.v1, which this run did not plan"),
        ("1f3a-again", "1f3a-again for rows.v1, which this run did not plan"),
        ("1f3a.warm-up-1", "1f3a.warm-up-1 for rows.v1, which no warm-up sends"),
        ("1f3a.warm-up-x", "1f3a.warm-up-x for rows.v1, which no warm-up sends"),
    ],
)
@pytest.mark.parametrize("status", ["OK", "INTERNAL", "CANCELLED", ""])
def test_what_nobody_announced_or_planned_is_a_violation_however_it_ended(
    request_id: str, message: str, status: str
) -> None:
    verdict = judge(request_id, status=status)
    assert verdict is not None
    assert verdict.outcome == "invalid"
    assert [each.message for each in verdict.violations] == [f"a-1 received {message}"]


def test_a_planned_request_without_a_record_is_left_to_accounting() -> None:
    verdict = judge("1f3a-00000009", planned=10)
    assert verdict is not None
    assert verdict.outcome == "valid"
    verdict = judge("1f3a-00000009", offered_rate=None)  # nothing planned how many there are
    assert verdict is not None
    assert verdict.outcome == "valid"


def test_a_run_of_an_earlier_release_announced_nothing() -> None:
    assert judge("aa00-00000001", announced=None) is None
    unasked = judge(arrivals=None)
    assert unasked is not None
    assert unasked.outcome == "unknown"
