"""Tenants' limits, recomputed from what models received."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lab.checkers import Abilities, ArrivalGap, FaultWindow, Outcome, RevisionInForce, Verdict
from lab.checkers.kinds import limits
from lab.history.arrivals import Arrival
from tests.checkers.builders import START_NS, make_evidence, make_record, make_table

if TYPE_CHECKING:
    from lab.history import Record

MS = 1_000_000
CAN = Abilities(limits_rates=True, limits_concurrency=True)
RATE = {"rate": 10, "burst": 2}


def asked(number: int, at_ms: float, status: str = "OK", **changes: Any) -> Record:
    """A request of a tenant that takes a millisecond."""
    sent_ns = START_NS + round(at_ms * MS)
    times = {"sent_ns": sent_ns, "done_ns": sent_ns + MS, "intended_ns": sent_ns}
    return make_record(number, **{"tenant": "batch", "status": status, **times, **changes})


def arrival(record: Record, **changes: Any) -> Arrival:
    """It came to a model at once, and was answered when its caller says."""
    at_ns, is_copy = record.sent_ns, False
    plain = Arrival(record.request_id, "v1-a", "rows.v1", is_copy, record.tenant, "", at_ns, record.done_ns, "OK")
    return plain._replace(**changes)


def judge(
    records: Sequence[Record], tenants: dict[str, Any], arrivals: Sequence[Arrival] | None = None, **changes: Any
) -> Verdict | None:
    """The verdict; models received all requests that were answered, unless ``arrivals`` says otherwise."""
    if arrivals is None:
        arrivals = [arrival(record) for record in records if record.status == "OK"]
    table = {**make_table({"rows@v1": 100}), "tenants": tenants}
    known = {"abilities": CAN, "arrivals": arrivals, "window_ns": (START_NS - 1_000 * MS, START_NS + 9_000 * MS)}
    return limits.check(make_evidence(records, table=table, **{**known, **changes}))


def objections(*arguments: Any, **changes: Any) -> list[str]:
    verdict = judge(*arguments, **changes)
    assert verdict is not None
    return [each.message for each in verdict.violations]


def test_only_runs_with_a_limited_tenant_on_a_topology_that_limits_are_judged() -> None:
    records = [asked(0, 0)]

    verdict = judge(records, {"batch": RATE})
    assert verdict == Verdict("limits", Outcome.VALID, "batch: 1 admitted, 0 refused")
    assert judge(records, {"ads": RATE}) is None
    assert judge(records, {"batch": RATE}, abilities=Abilities()) is None
    table = {**make_table(), "tenants": {"batch": RATE}}
    unasked = limits.check(make_evidence(records, table=table, abilities=CAN, arrivals=None))
    assert unasked is not None
    assert unasked.outcome == Outcome.UNKNOWN


@pytest.mark.parametrize(("every_ms", "count", "over"), [(100, 20, 0), (50, 20, 9), (0, 2, 0), (0, 3, 1)])
def test_no_more_is_admitted_than_burst_and_rate_allow(every_ms: float, count: int, over: int) -> None:
    found = objections([asked(number, number * every_ms) for number in range(count)], {"batch": RATE})

    assert len(found) == over
    assert all("was admitted over the rate of batch: 10 rps, 2 at once" in each for each in found)


def test_an_admission_that_may_have_waited_is_not_over_the_rate() -> None:
    records = [asked(number, 0, done_ns=START_NS + 300 * MS) for number in range(4)]
    arrivals = [arrival(each, arrived_ns=START_NS + 200 * MS) for each in records]

    assert objections(records, {"batch": RATE}, arrivals) == []
    assert len(objections(records, {"batch": RATE})) == 2


def test_an_admission_that_waited_long_takes_no_token_from_one_that_did_not() -> None:
    waited, other = asked(0, 0, done_ns=START_NS + 300 * MS), asked(1, 10)
    arrivals = [arrival(waited, arrived_ns=START_NS + 200 * MS), arrival(other)]
    one_at_once = {"batch": {"rate": 10, "burst": 1}}

    assert objections([waited, other], one_at_once, arrivals) == []
    at_once = [*arrivals, arrival(third := asked(2, 11))]
    assert len(objections([waited, other, third], one_at_once, at_once)) == 1


def test_limits_are_divided_and_each_share_rounded_up() -> None:
    records = [asked(number, 0) for number in range(6)]
    three = replace(CAN, limiters=3)

    assert len(objections(records, {"batch": {"rate": 10, "burst": 4}}, abilities=three)) == 0
    assert len(objections(records, {"batch": {"rate": 10, "burst": 3}}, abilities=three)) == 3


def test_a_changed_limit_and_a_restarted_limiter_may_have_had_another_full_bucket() -> None:
    records = [asked(number, 0) for number in range(4)]
    tables = [{**make_table({"rows@v1": 100}), "tenants": {"batch": {"rate": rate, "burst": 2}}} for rate in (9, 10)]
    changed = [RevisionInForce(number, table, from_ns=0) for number, table in enumerate(tables, start=1)]
    killed = FaultWindow("gateway-1 killed", "gateway-1", START_NS, None, kills=True)

    assert objections(records, {}, revisions=changed) == []
    assert objections(records, {"batch": RATE}, fault_windows=[killed]) == []
    assert len(objections(records, {"batch": RATE}, fault_windows=[replace(killed, target="a-1")])) == 2
    unlimited = [*changed, RevisionInForce(3, make_table({"rows@v1": 100}), from_ns=0)]
    assert objections(records, {}, revisions=unlimited) == []


def test_no_more_are_in_flight_than_the_table_says() -> None:
    records = [asked(number, number, done_ns=START_NS + 100 * MS) for number in range(3)]
    few = {"batch": {"concurrent": 2}}

    assert "while models had 2 requests of batch, which may have 2 in flight" in objections(records, few)[0]
    assert objections(records[:2], few) == []
    left = [arrival(each, status="CANCELLED") for each in records]  # their caller had left before
    assert objections(records, few, left) == []


def test_tenants_without_an_entry_share_a_quota_where_callers_are_proved() -> None:
    records = [asked(number, 0, tenant=f"t{number}") for number in range(3)]

    assert objections(records, {"default": RATE}) == []
    assert len(objections(records, {"default": RATE}, abilities=replace(CAN, proves_callers=True))) == 1


def test_a_refusal_needs_an_empty_bucket_or_as_many_in_flight_as_allowed() -> None:
    refused = [asked(1, 50, "RESOURCE_EXHAUSTED")]
    assert "with 2.0 tokens left at least" in objections(refused, {"batch": RATE})[0]
    assert objections([asked(0, 0), *refused], {"batch": RATE}) == []  # one token, and one to spare, are not left

    few = {"batch": {"concurrent": 1}}
    assert "with 0 in flight at most" in objections(refused, few)[0]
    assert objections([asked(0, 0, done_ns=START_NS + 60 * MS), *refused], few) == []
    assert objections([asked(0, 0, "UNAVAILABLE", done_ns=START_NS + 60 * MS), *refused], few) == []

    others = [arrival(asked(7, 0), request_id="another run's")]
    assert objections(refused, {"batch": RATE}, others) == []


def test_a_request_reaches_models_for_its_own_tenant_by_those_who_may_name_it() -> None:
    records = [asked(0, 0)]

    assert "reached models for 'kids'" in objections(records, {"batch": RATE}, [arrival(records[0], tenant="kids")])[0]
    assert objections(records, {"batch": {**RATE, "callers": ["homepage"]}}) == []
    assert "homepage may not name" in objections(records, {"batch": {**RATE, "callers": ["search"]}})[0]


class TestSharesOfTwoGateways:
    """Each has half of every limit."""

    TWO = replace(CAN, limiters=2, between=("gateway",))
    WIDE: dict[str, Any] = {"rate": 10, "burst": 6}  # noqa: RUF012 (nobody changes it)

    def found(self, records: list[Record], tenants: dict[str, Any], *, via: str = "", **changes: Any) -> list[str]:
        arrivals = [arrival(record, via=via) for record in records if record.status == "OK"]
        return objections(records, tenants, arrivals, **{"abilities": self.TWO, **changes})

    @staticmethod
    def refused(number: int, at_ms: float) -> Record:
        return asked(number, at_ms, "RESOURCE_EXHAUSTED", message="over its rate (gateway gateway-2)")

    def test_a_tenant_of_whom_nothing_is_admitted_is_refused_wrongly(self) -> None:
        [found] = self.found([self.refused(0, 1_000)], {"batch": self.WIDE})
        assert "was refused by gateway-2 ('over its rate (gateway gateway-2)'), with 3.0 tokens left at least" in found
        assert self.found([self.refused(0, -400)], {"batch": self.WIDE}) != []
        assert self.found([self.refused(0, -700)], {"batch": self.WIDE}) == []  # its bucket may be empty at first

    def test_what_another_gateway_admitted_is_not_charged_to_this_one(self) -> None:
        records = [*(asked(number, 900) for number in range(3)), self.refused(9, 1_000)]
        assert self.found(records, {"batch": self.WIDE}) == []
        assert self.found(records, {"batch": self.WIDE}, via="2 gateway (gateway-2)") == []
        assert len(self.found(records, {"batch": self.WIDE}, via="2 gateway (gateway-1)")) == 1

    def test_a_share_that_holds_one_request_at_once_is_judged_by_several_refusals(self) -> None:
        records = [self.refused(number, 1_000 + 10 * number) for number in range(3)]
        assert len(self.found(records, {"batch": RATE})) == 3
        assert self.found(records[1:], {"batch": RATE}) == []

    def test_requests_in_flight_that_are_counted_out_leave_room(self) -> None:
        few, before = {"batch": {"concurrent": 4}}, [asked(number, 0) for number in range(2)]
        assert "with 0 in flight at most" in self.found([*before, self.refused(9, 50)], few)[0]
        stay = [replace(each, done_ns=START_NS + 60 * MS) for each in before]
        assert self.found([*stay, self.refused(9, 50)], few) == []

    def test_requests_of_other_callers_use_up_the_share_too(self) -> None:
        others = [arrival(asked(7, at_ms), request_id=f"other-{at_ms}") for at_ms in (600, 700, 800)]
        few: dict[str, Any] = {"tenants": {"batch": self.WIDE}, "abilities": self.TWO}
        assert objections([self.refused(0, 1_000)], arrivals=others[:1], **few) != []
        assert objections([self.refused(0, 1_000)], arrivals=others, **few) == []
        gap = [ArrivalGap("v1-a", None, "killed")]
        assert objections([self.refused(0, 1_000)], arrivals=others[:1], arrival_gaps=gap, **few) == []

    def test_a_fault_between_explains_a_refusal(self) -> None:
        killed = FaultWindow("gateway-1 killed", "gateway-1", START_NS, START_NS + 10 * MS, kills=True)
        assert self.found([self.refused(0, 1_000)], {"batch": self.WIDE}, fault_windows=[killed]) == []
        assert self.found([self.refused(0, 5_000)], {"batch": self.WIDE}, fault_windows=[killed]) != []
