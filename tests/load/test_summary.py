import json
from array import array
from dataclasses import replace
from typing import Any

import pytest

from lab.history import UNSENT, Record
from lab.load.arrivals import Schedule
from lab.load.summary import ShardResult, achieved_rate, combine, latency_histogram, summarize
from lab.measure.latency import LatencyHistogram
from tests.checkers.builders import make_record

MS = 1_000_000
START = 1_700_000_000_000_000_000


def record(sequence: int, intended_ms: float, *, late_ms: float = 0, took_ms: float = 0, status: str = "OK") -> Record:
    intended = START + round(intended_ms * MS)
    sent = intended + round(late_ms * MS)
    done = sent + round(took_ms * MS)
    return make_record(sequence, intended_ns=intended, sent_ns=sent, done_ns=done, status=status)


def schedule_of(count: int, gap_ms: float) -> Schedule:
    offsets = array("q", [round(number * gap_ms * MS) for number in range(count)])
    return Schedule(offsets, array("q", [400] * count), round(count * gap_ms * MS))


def test_a_run_on_time_achieves_what_was_offered() -> None:
    records = [record(number, number * 10, took_ms=1) for number in range(100)]

    seen = summarize(records, schedule_of(100, 10))

    assert (seen.planned, seen.offered, seen.achieved_rate) == (100, 100.0, 100.0)
    assert (seen.ok, seen.failed, seen.missing, seen.by_status) == (100, 0, 0, {"OK": 100})


def test_a_driver_that_falls_behind_shows_it() -> None:
    records = [record(number, number * 10, late_ms=number * 10, took_ms=1) for number in range(100)]

    seen = summarize(records, schedule_of(100, 10))

    assert seen.achieved_rate == pytest.approx(50, rel=0.02)
    assert seen.schedule_delay_p99_ms == pytest.approx(980, rel=0.01)


def test_latency_counts_from_the_intended_time() -> None:
    records = [record(number, number * 10, late_ms=number, took_ms=1) for number in range(100)]

    seen = summarize(records, schedule_of(100, 10))

    assert (
        seen.p50_ms,
        seen.p90_ms,
        seen.p99_ms,
        seen.p999_ms,
        seen.max_ms,
    ) == pytest.approx((50, 90, 99, 100, 100), rel=2e-3)


def test_latency_is_of_answered_requests_and_failed_ones_are_counted() -> None:
    records = [
        record(0, 0, took_ms=1),
        record(1, 10, took_ms=250, status="DEADLINE_EXCEEDED"),
        record(2, 20, status=UNSENT),
    ]

    seen = summarize(records, schedule_of(3, 10))

    assert (seen.ok, seen.failed, seen.missing) == (1, 1, 0)
    assert seen.by_status == {"OK": 1, "DEADLINE_EXCEEDED": 1, UNSENT: 1}
    assert seen.max_ms == pytest.approx(1, rel=1e-3)
    assert latency_histogram(records).count == 1
    assert summarize(records[1:], schedule_of(3, 10)).p50_ms == 0


def test_a_run_that_was_broken_off_is_judged_by_the_part_that_ran() -> None:
    on_time = [record(number, number * 10, took_ms=1) for number in range(50)]
    behind = [record(number, number * 10, late_ms=number * 10, took_ms=1) for number in range(50)]
    rest = [record(number, number * 10, status=UNSENT) for number in range(50, 100)]

    assert summarize(on_time + rest, schedule_of(100, 10)).achieved_rate == pytest.approx(100)
    assert summarize(behind + rest, schedule_of(100, 10)).achieved_rate == pytest.approx(50, rel=0.05)


def test_records_that_a_killed_driver_lost_are_missing() -> None:
    seen = summarize([record(7, 70, took_ms=1)], schedule_of(100, 10))

    assert (seen.missing, seen.ok) == (99, 1)
    assert seen.achieved_rate == pytest.approx(1.0)


def test_no_records_are_no_result() -> None:
    seen = summarize([], schedule_of(100, 10))

    assert (seen.missing, seen.ok, seen.failed, seen.achieved_rate, seen.p99_ms) == (100, 0, 0, 0.0, 0.0)


def test_a_run_without_duration_has_no_rate() -> None:
    assert achieved_rate(1, start_ns=5, planned_end_ns=5, last_sent_ns=6) == 0.0


def result(**changes: Any) -> ShardResult:
    """Of a process that was to send 100 requests in a second, and did."""
    whole = ShardResult(
        planned=100,
        sent=100,
        ok=100,
        stopped_by="",
        offered=100.0,
        start_ns=START,
        planned_end_ns=START + 1_000 * MS,
        last_sent_ns=START + 990 * MS,
        end_ns=START + 1_001 * MS,
        cpu_s=0.25,
        niceness=-10,
        schedule_delays=LatencyHistogram([1 * MS] * 100),
        warm_up_errors={},
    )
    return replace(whole, **changes)


def test_an_account_comes_back_from_its_json_form() -> None:
    own = result(warm_up_errors={"A": "UNAVAILABLE"}, stopped_by="SIGINT")

    back = ShardResult.from_document(json.loads(json.dumps(own.to_document())))

    assert combine([own]) == combine([back])


def test_accounts_of_several_processes_add_up() -> None:
    late = result(
        ok=90,
        last_sent_ns=START + 2_000 * MS,
        end_ns=START + 2_500 * MS,
        niceness=0,
        schedule_delays=LatencyHistogram([9 * MS] * 100),
        warm_up_errors={"B": "late"},
    )

    seen = combine([result(warm_up_errors={"A": "early"}), late])

    assert (seen.planned, seen.sent, seen.ok, seen.failed, seen.unsent, seen.processes) == (200, 200, 190, 10, 0, 2)
    # 200 requests in the two seconds that it took the later of them.
    assert (seen.offered, seen.achieved_rate, seen.wall_s, seen.cpu_s) == (200.0, 100.0, 2.5, 0.5)
    assert pytest.approx((seen.schedule_delay_p50_ms, seen.schedule_delay_p90_ms), rel=1e-3) == (1.0, 9.0)
    assert (seen.warm_up_errors, seen.niceness, seen.stopped_by) == ({"A": "early", "B": "late"}, 0, "")


def test_processes_that_were_stopped_broke_off_where_the_first_of_them_did() -> None:
    stopped = {"stopped_by": "SIGINT", "last_sent_ns": START + 400 * MS}
    one = result(**stopped, sent=50, ok=50, planned_end_ns=START + 500 * MS)
    other = result(**stopped, sent=51, ok=51, planned_end_ns=START + 510 * MS)

    seen = combine([one, other])

    assert (seen.unsent, seen.stopped_by, seen.achieved_rate) == (99, "SIGINT", 202.0)


def test_several_tenants_are_summarised_separately() -> None:
    alone = [record(number, number, took_ms=number + 1) for number in range(100)]
    assert summarize(alone, schedule_of(100, 1)).by_tenant == {}

    shared = [replace(each, tenant="ads" if each.sequence % 2 else "") for each in alone]
    shared[1] = replace(shared[1], status="RESOURCE_EXHAUSTED")
    seen = summarize([*shared, record(100, 100, status=UNSENT)], schedule_of(101, 1)).by_tenant

    assert list(seen) == ["", "ads"]
    assert (seen[""].sent, seen[""].ok, seen[""].failed, seen[""].by_status) == (50, 50, 0, {"OK": 50})
    assert (seen["ads"].sent, seen["ads"].ok, seen["ads"].failed) == (50, 49, 1)
    assert seen["ads"].by_status == {"OK": 49, "RESOURCE_EXHAUSTED": 1}
    assert pytest.approx((seen[""].p50_ms, seen[""].p99_ms, seen["ads"].p50_ms, seen["ads"].p99_ms), rel=2e-3) == (
        49,
        99,
        52,
        100,
    )


def test_streams_are_summarised_apart() -> None:
    stream = replace(record(3, 30, took_ms=900), streamed=1, items="t01", first_item_ns=2 * MS)
    records = [*(record(number, number * 10, took_ms=1) for number in range(3)), stream]

    seen = summarize(records, schedule_of(4, 10))

    assert seen.ok == 4
    assert seen.max_ms == pytest.approx(1, rel=1e-3)
    assert seen.streams is not None
    assert (seen.streams.sent, seen.streams.ok) == (1, 1)
    assert (seen.streams.p50_ms, seen.streams.first_item_p50_ms) == pytest.approx((900, 2), rel=1e-3)
    assert summarize(records[:3], schedule_of(3, 10)).streams is None
