"""Whom a fault reached, from handmade histories: good ones, bad ones, and such as tell nothing."""

from collections.abc import Callable
from dataclasses import replace
from math import inf, isnan
from typing import Any

import pytest

from lab.history import UNSENT, Record
from lab.measure.hit_requests import LEAST_REQUESTS, NOTICED_MS, SLO, SLOWER, Blast, Ending, Fault, blast
from lab.runs.fault_rounds import Spread, radius
from tests.checkers.builders import make_record

MS = 1_000_000
EVERY_MS = 20
FAULT = Fault(
    name="gone", steady_ns=1_000 * MS, inject_ns=2_000 * MS, heal_ns=3_000 * MS, until_ns=4_000 * MS, bites=True
)
CALLERS = {"homepage": "consumer", "search": "consumer", "payments": "business"}


def record(at_ms: float, caller: str, *, took_ms: float = 1, **changes: Any) -> Record:
    """A good request."""
    times = {"intended_ns": round(at_ms * MS), "sent_ns": round(at_ms * MS), "done_ns": round((at_ms + took_ms) * MS)}
    return make_record(caller=caller, tenant=CALLERS[caller], **{**times, **changes})


def history(harm: Callable[[float, str], dict[str, Any] | None] = lambda *_: {}) -> list[Record]:
    """50 requests per second of each caller from 1 s to 4 s; ``harm`` changes them, or takes them out."""
    records = []
    for place, caller in enumerate(CALLERS):
        for number in range(150):
            at_ms = 1_000 + number * EVERY_MS + place
            changes = harm(at_ms, caller)
            if changes is not None:
                records.append(record(at_ms, caller, **changes))
    return records


def during(*callers: str, until_ms: float = 3_000, **changes: Any) -> Callable[[float, str], dict[str, Any]]:
    """Requests of these callers, from the injection on."""
    return lambda at_ms, caller: dict(changes) if caller in callers and 2_000 <= at_ms < until_ms else {}


def found(harm: Callable[[float, str], dict[str, Any] | None] = lambda *_: {}, fault: Fault = FAULT) -> Blast:
    return blast(history(harm), fault, CALLERS)


def test_one_caller_that_is_refused_is_the_whole_radius() -> None:
    seen = found(during("payments", until_ms=3_200, status="UNAVAILABLE"))

    assert (seen.callers, seen.tenants) == (frozenset({"payments"}), frozenset({"business"}))
    assert (seen.of_callers, seen.of_tenants) == (frozenset(CALLERS), frozenset({"consumer", "business"}))
    assert (len(seen.hits), sum(seen.hits), seen.failed, seen.degraded, seen.slow) == (150, 50, 50, 0, 0)
    assert (seen.ending, seen.detect_s) == (Ending.REFUSED, 0.0)
    assert seen.heal_s == pytest.approx(0.182)
    assert seen.budget == pytest.approx(60 / 300 / (1 - SLO))
    assert not seen.unknown


def test_answers_by_default_and_by_fallback_are_hit_but_cost_no_budget() -> None:
    for source in ("default", "fallback"):
        seen = found(during("search", source=source))
        assert (seen.callers, seen.failed, seen.degraded, seen.budget) == (frozenset({"search"}), 0, 50, 0.0)
        assert seen.ending is Ending.OPEN


def test_answers_that_take_too_long_are_hit_and_nobody_calls_that_clear() -> None:
    seen = found(during("search", took_ms=NOTICED_MS + 1))
    assert (seen.callers, seen.slow, seen.ending, seen.detect_s) == (frozenset({"search"}), 50, Ending.OPEN, inf)
    assert not found(during("search", took_ms=NOTICED_MS)).callers


def test_where_answers_always_take_their_time_slow_is_what_takes_longer_than_that() -> None:
    def taking(during_ms: float) -> Blast:
        return found(lambda at_ms, _: {"took_ms": during_ms if 2_000 <= at_ms < 3_000 else 50})

    assert taking(50 * SLOWER + 1).callers == set(CALLERS)
    assert not taking(50 * SLOWER).callers


def test_a_slow_request_here_and_there_is_no_fault() -> None:
    seen = found(lambda at_ms, caller: {"took_ms": 500} if caller == "search" and at_ms in (2_101, 2_801) else {})
    assert (
        seen.callers,
        sum(seen.hits),
        seen.ending,
        seen.detect_s,
        seen.heal_s,
    ) == (frozenset(), 0, None, None, None)


def test_a_hiccup_of_the_machine_is_no_fault_and_answers_that_are_slow_time_and_again_are() -> None:
    hiccup = found(lambda at_ms, caller: {"took_ms": 400} if caller == "search" and 2_100 <= at_ms < 2_260 else {})
    every_other = found(
        lambda at_ms, caller: {"took_ms": 400} if caller == "search" and at_ms >= 2_000 and at_ms % 40 == 1 else {}
    )
    assert (hiccup.slow, every_other.slow) == (0, 25)
    assert (every_other.callers, every_other.ending) == (frozenset({"search"}), Ending.OPEN)


def test_traffic_that_leaves_the_dead_part_alone_ends_the_hits() -> None:
    seen = found(during("homepage", "search", until_ms=2_100, status="UNAVAILABLE"))
    assert (seen.ending, seen.heal_s) == (Ending.AVOIDED, 0.0)
    assert seen.detect_s == pytest.approx(0.081)


def test_hits_that_stop_only_just_before_the_end_have_not_ended() -> None:
    late = 3_000 - EVERY_MS * (LEAST_REQUESTS - 2)
    seen = found(during("search", until_ms=late, status="DEADLINE_EXCEEDED"))
    assert (seen.ending, seen.detect_s, seen.heal_s) == (Ending.OPEN, inf, 0.0)


def test_rare_hits_have_not_ended_because_the_last_few_requests_were_spared() -> None:
    """One request in five is hit; the last eleven are not, which chance alone does one time in twelve."""
    seen = found(
        lambda at_ms, caller: (
            ({"status": "DEADLINE_EXCEEDED"} if caller == "search" and at_ms < 2_780 and at_ms % 100 == 1 else {})
            if at_ms >= 2_000
            else {}
        )
    )
    assert seen.callers == {"search"}
    assert seen.ending is Ending.OPEN


def test_an_error_that_takes_its_time_or_says_nothing_is_not_clear() -> None:
    assert found(during("search", status="UNAVAILABLE", took_ms=130)).ending is Ending.OPEN
    assert found(during("search", status="UNKNOWN")).ending is Ending.OPEN


def test_requests_in_flight_at_the_fault_belong_to_it() -> None:
    seen = found(lambda at_ms, _: {"status": "UNAVAILABLE", "took_ms": 30} if at_ms == 1_980 else {})
    assert (seen.callers, sum(seen.hits), seen.ending, seen.detect_s) == (
        frozenset({"homepage"}),
        1,
        Ending.AVOIDED,
        0.0,
    )


def test_requests_in_flight_at_the_next_fault_belong_to_that() -> None:
    assert found(lambda at_ms, _: {"status": "UNAVAILABLE", "took_ms": 30} if at_ms == 3_980 else {}).budget == 0


def test_requests_that_hang_since_before_belong_to_what_was_before() -> None:
    def hanging(at_ms: float, caller: str) -> dict[str, Any]:
        return {"status": "DEADLINE_EXCEEDED", "took_ms": 3_000} if caller == "search" and at_ms >= from_ms else {}

    from_ms = 3_500
    earlier = found(
        lambda at_ms, caller: hanging(at_ms, caller) or during("search", status="UNAVAILABLE")(at_ms, caller)
    )
    assert (earlier.callers, earlier.heal_s) == (frozenset({"search"}), inf)
    from_ms = 1_500
    later = found(lambda at_ms, caller: hanging(at_ms, caller) if at_ms < 2_000 else {})
    assert later.unknown == "20 of 150 requests were hit before it"


def test_a_fault_that_is_never_healed_takes_forever() -> None:
    assert found(during("search", until_ms=9_000, status="UNAVAILABLE")).heal_s == inf


def test_the_control_plane_may_know_and_it_may_be_that_nobody_looked() -> None:
    assert found().noticed_s is None
    assert found(fault=replace(FAULT, noticed_ns=2_250 * MS)).noticed_s == 0.25


def test_a_fault_that_was_seen_to_bite_and_reached_nobody_is_nothing() -> None:
    seen = found()
    assert (seen.callers, seen.unknown, len(seen.hits), seen.budget) == (frozenset(), "", 150, 0.0)


@pytest.mark.parametrize(
    ("harm", "fault", "reason"),
    [
        (lambda *_: {}, replace(FAULT, bites=False), "no other effect of the fault was observed"),
        (lambda *_: None, FAULT, "homepage: 0 requests before it"),
        (lambda at_ms, _: None if 2_000 <= at_ms < 3_000 else {}, FAULT, "homepage: 0 requests while it lasted"),
        (
            lambda at_ms, caller: None if caller == "search" and at_ms >= 2_100 else {},
            FAULT,
            "search: 5 requests while",
        ),
        (lambda at_ms, _: {"status": UNSENT} if at_ms >= 2_500 else {}, FAULT, "a driver was stopped"),
        (
            lambda at_ms, _: {"status": "UNAVAILABLE"} if at_ms == 1_500 else {},
            FAULT,
            "1 of 150 requests were hit before",
        ),
        (
            lambda at_ms, _: {"sent_ns": round(at_ms + 900) * MS, "took_ms": 901} if 2_000 <= at_ms < 2_500 else {},
            FAULT,
            "the driver itself was late with 75 of 150",
        ),
    ],
)
def test_too_little_is_unknown_and_says_why(harm: Any, fault: Fault, reason: str) -> None:
    seen = found(harm, fault)
    assert reason in seen.unknown
    assert (seen.callers, seen.hits, seen.heal_s) == (frozenset(), (), None)
    assert isnan(seen.budget)


def test_callers_that_nobody_expected_or_none_at_all_are_unknown() -> None:
    assert "payments: sent requests" in blast(history(), FAULT, ["homepage", "search"]).unknown
    assert blast(history(), FAULT, []).unknown
    assert "brand-new: 0 requests" in blast(history(), FAULT, [*CALLERS, "brand-new"]).unknown


@pytest.mark.parametrize("change", [{"heal_ns": 1_999 * MS}, {"steady_ns": 2_001 * MS}, {"until_ns": 2_500 * MS}])
def test_a_fault_that_ends_before_it_begins_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="in this order"):
        replace(FAULT, **change)


def test_rounds_are_put_together_and_unknown_ones_counted_apart() -> None:
    rounds = [
        found(during("search", until_ms=3_200, status="UNAVAILABLE")),
        found(during("search", "payments", status="UNAVAILABLE")),
        found(lambda *_: None),
    ]
    of = radius("mesh", rounds)

    assert (of.rounds, of.unknown) == (2, ("homepage: 0 requests before it; 10 are needed",))
    assert (of.callers, of.of_callers) == (Spread((1, 2)), 3)
    assert of.requests is not None
    assert (of.requests.estimate, of.requests.count) == (0.5, 300)
    assert of.requests.low < 0.5 < of.requests.high
    assert (of.failed, of.degraded, of.slow) == (0.5, 0, 0)
    assert of.heal is not None
    assert (of.heal.greatest, of.heal.least) == pytest.approx((0.181, 0.0))
    assert of.budget == pytest.approx(160 / 600 / (1 - SLO))


def test_rounds_of_which_none_is_known_have_no_figures() -> None:
    of = radius("mesh", [found(lambda *_: None)])
    assert (of.rounds, of.callers, of.requests, of.heal) == (0, None, None, None)
    with pytest.raises(ValueError, match="rounds of 0 faults"):
        radius("mesh", [])


def test_nothing_hit_in_many_requests_still_has_an_interval() -> None:
    of = radius("mesh", [found()])
    assert of.requests is not None
    assert of.requests.estimate == of.requests.low == 0
    assert 0.02 < of.requests.high < 0.03
