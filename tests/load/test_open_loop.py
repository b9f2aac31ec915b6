import asyncio
import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from lab.errors import CallError, RunError
from lab.history import UNSENT, Record, SpoolWriter, read_spool
from lab.load import open_loop
from lab.load.arrivals import Constant, Poisson, Trace
from lab.load.open_loop import OpenLoop, Stop
from lab.load.open_loop_run import drive
from lab.load.plan import LoadPlan, UseCase
from lab.load.progress import Progress
from lab.load.summary import DriverSummary, summarize
from lab.topologies import open_client
from scenarios.framework.traces import production_trace
from tests.load.builders import FakeClient, GatedServer, load_plan

DEADLINE_S = 60
NS = 1_000_000_000


async def driven(
    plan: LoadPlan, client: Any, *, stop: Stop | None = None, report: Callable[[Progress], None] = lambda _: None
) -> tuple[DriverSummary, list[Record]]:
    """Runs a plan to its end, in which every request has one record, and the driver's own count agrees with them."""
    run = drive(plan, plan.schedule(), client, stop or Stop(), report)
    summary = await asyncio.wait_for(run, DEADLINE_S)
    records = sorted(read_spool(plan.spool), key=lambda record: record.sequence)
    assert list(range(summary.planned)) == [record.sequence for record in records]
    unsent = [record for record in records if record.status == UNSENT]
    ok = [record for record in records if record.status == "OK"]
    assert (len(ok), len(unsent)) == (summary.ok, summary.unsent)
    assert summary.planned == summary.ok + summary.failed + summary.unsent
    assert summary.sent == summary.ok + summary.failed
    for record in records:
        if record.status == UNSENT:
            assert (record.sent_ns, record.done_ns, record.request_id) == (0, 0, "")
        else:
            assert record.intended_ns <= record.sent_ns <= record.done_ns
    return summary, records


# Through a real server


async def test_every_request_of_a_run_through_grpc_has_its_record(tmp_path: Path, server: GatedServer) -> None:
    plan = load_plan(
        tmp_path,
        server.address,
        arrivals=Poisson(400, 0.25, 1),
        use_cases=(UseCase("ContinueWatchingRanking", "ranking.v1"), UseCase("HomepageRows", "ranking.v1")),
        users=7,
    )
    before = time.time_ns()

    summary, records = await driven(plan, open_client("direct", "homepage", plan.endpoints))

    assert (summary.planned, "", {}) == (summary.ok, summary.stopped_by, summary.warm_up_errors)
    assert {record.use_case for record in records} == {"ContinueWatchingRanking", "HomepageRows"}
    assert len(records) == len({record.request_id for record in records})
    assert summary.planned + 2 == server.received  # the warm-up calls are sent, and stand outside the history
    offsets = plan.schedule().offsets_ns
    for record in records:
        assert offsets[record.sequence] - offsets[0] == record.intended_ns - records[0].intended_ns
        assert before <= record.sent_ns <= time.time_ns()
        assert (
            record.topology,
            record.caller,
            record.country,
            record.traffic_origin,
        ) == ("direct", "homepage", "US", "artificial")
        assert (
            record.source,
            record.routing_key,
            record.model,
            record.version,
            record.cluster,
            record.replica,
            record.served_revision,
            record.attempts,
        ) == ("model", "cw-ranker.v1", "cw-ranker", "v1", "ml-cluster-1", f"for-{record.user_id}", 3, 1)
        assert (record.item_id, record.score) == ("t07", 0.75)
        assert 200 < record.payload_bytes < 600


async def test_a_record_says_to_what_its_request_was_pinned_and_for_which_shadow_it_was_marked(tmp_path: Path) -> None:
    _, records = await driven(load_plan(tmp_path, contexts={"override": ("cw-ranker@v1",)}), FakeClient())

    assert {(record.override, record.shadow) for record in records} == {("cw-ranker@v1", "cw-ranker.v3")}


async def test_a_paused_server_shows_in_the_latencies_from_the_intended_times(
    tmp_path: Path, server: GatedServer
) -> None:
    """No coordinated omission: a driver that waits for answers would have sent one request in the whole pause."""
    plan = load_plan(tmp_path, server.address, arrivals=Constant(400, 0.5))
    client = open_client("direct", "homepage", plan.endpoints)
    schedule = plan.schedule()
    paused = 100

    async def pause_after_the_warm_up() -> None:
        server.gate.clear()
        server.waiting_for = server.received + paused
        await server.enough.wait()
        server.gate.set()

    with SpoolWriter(plan.spool) as spool:
        await client.ready()
        loop = OpenLoop(plan, schedule, client, spool, Stop())
        pausing = asyncio.create_task(pause_after_the_warm_up())
        await asyncio.wait_for(loop.run(), DEADLINE_S)
        await pausing
    await client.close()
    records = sorted(read_spool(plan.spool), key=lambda record: record.sequence)

    # Whoever was sent in the pause waited until the last of them was sent, at its intended time or later.
    end = records[paused - 1].intended_ns
    for record in records[:paused]:
        assert record.done_ns - record.intended_ns >= end - record.intended_ns
    seen = summarize(records, schedule)
    pause_ms = (end - records[0].intended_ns) / 1e6
    assert (seen.planned, seen.ok) == (200, 200)
    # Half of the requests fell into the pause, evenly: a quarter of all waited at least half of it.
    assert seen.p90_ms >= 0.5 * pause_ms
    assert seen.max_ms >= 0.99 * pause_ms


async def test_every_request_of_a_production_trace_is_accounted_for(tmp_path: Path, server: GatedServer) -> None:
    trace = Trace(str(production_trace(tmp_path)), speedup=1_000)
    plan = load_plan(tmp_path, server.address, arrivals=trace, timeout_s=DEADLINE_S)

    summary, records = await driven(plan, open_client("direct", "homepage", plan.endpoints))

    assert (summary.planned, summary.sent) == (8_819, 8_819)
    sizes = plan.schedule().payload_bytes
    assert all(abs(record.payload_bytes - sizes[record.sequence]) < 200 for record in records)


# Through a client whose behaviour a test sets


async def test_a_driver_that_is_held_up_itself_shows_it_as_schedule_delay(tmp_path: Path) -> None:
    held_up_s = 0.1

    def behave(number: int) -> None:
        if number == 50:
            end = time.monotonic() + held_up_s
            while time.monotonic() < end:
                pass

    summary, records = await driven(load_plan(tmp_path, arrivals=Constant(400, 0.5)), FakeClient(behave))

    # 40 of 200 requests fell into the tenth of a second in which the process did nothing else.
    assert summary.schedule_delay_max_ms >= 0.8 * held_up_s * 1_000
    assert summary.schedule_delay_p90_ms >= 0.3 * held_up_s * 1_000
    assert (
        summarize(records, load_plan(tmp_path, arrivals=Constant(400, 0.5)).schedule()).p90_ms
        >= 0.3 * held_up_s * 1_000
    )


async def test_progress_shows_latencies_of_answers_only(tmp_path: Path) -> None:
    def behave(number: int) -> None:
        if number % 4:
            raise CallError(grpc.StatusCode.UNAVAILABLE, "cw: no replica")

    seen: list[Progress] = []
    summary, _ = await driven(load_plan(tmp_path), FakeClient(behave), report=seen.append)

    assert sum(sum(each.latency_counts) for each in seen) == summary.ok == 25


async def test_failures_are_recorded_with_the_decision_and_the_message(tmp_path: Path) -> None:
    def behave(number: int) -> None:
        if number % 2:
            raise CallError(grpc.StatusCode.UNAVAILABLE, "cw: no replica", routing_key="cw.v1", revision=7, attempts=2)

    summary, records = await driven(load_plan(tmp_path), FakeClient(behave))

    assert summary.failed == 50
    assert {
        (one.status, one.message, one.routing_key, one.revision, one.attempts, one.model, one.source)
        for one in records
        if one.status != "OK"
    } == {("UNAVAILABLE", "cw: no replica", "cw.v1", 7, 2, "", "")}


async def test_a_client_with_a_bug_costs_no_record(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def behave(number: int) -> None:
        if number % 2:
            raise RuntimeError("a bug")

    _, records = await driven(load_plan(tmp_path), FakeClient(behave))

    assert {(one.status, one.message) for one in records if one.status != "OK"} == {("UNKNOWN", "RuntimeError: a bug")}
    assert len(caplog.records) == 1


async def test_a_request_without_an_answer_is_given_up_after_the_timeout(tmp_path: Path) -> None:
    def behave(number: int) -> Any:
        return asyncio.Event().wait() if number % 10 == 5 else None

    _, records = await driven(load_plan(tmp_path, timeout_s=0.05), FakeClient(behave))

    given_up = [record for record in records if record.status != "OK"]
    assert len(given_up) == 10
    for record in given_up:
        assert (record.status, "no answer within 0.05 s" in record.message) == ("DEADLINE_EXCEEDED", True)
        assert record.done_ns - record.sent_ns >= 0.05 * NS


async def test_a_failed_warm_up_is_reported_and_the_run_goes_on(tmp_path: Path) -> None:
    def behave(number: int) -> None:
        if number == 0:
            raise CallError(grpc.StatusCode.UNAVAILABLE, "not yet")

    summary, _ = await driven(load_plan(tmp_path), FakeClient(behave))

    assert (summary.ok, summary.warm_up_errors) == (100, {"ContinueWatchingRanking": "UNAVAILABLE: not yet"})


async def test_a_stopped_run_sends_no_more_and_lets_requests_in_flight_finish(tmp_path: Path) -> None:
    stop, release = Stop(), asyncio.Event()

    def behave(number: int) -> Any:
        if number < 40:
            return None
        if number == 60:
            stop.ask("SIGINT")
            asyncio.get_running_loop().call_soon(release.set)
        return release.wait()

    client = FakeClient(behave)
    summary, records = await driven(load_plan(tmp_path, arrivals=Constant(400, 60)), client, stop=stop)

    assert (summary.stopped_by, summary.planned, summary.failed) == ("SIGINT", 24_000, 0)
    assert 60 <= summary.sent < 24_000
    assert client.closed
    assert "" not in {record.user_id for record in records if record.status == UNSENT}


async def test_a_stopped_run_gives_up_requests_that_do_not_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_loop, "STOP_GRACE_S", 0.01)
    stop = Stop()

    def behave(number: int) -> Any:
        if number == 20:
            stop.ask("SIGTERM")
        return asyncio.Event().wait() if number >= 10 else None

    summary, records = await driven(load_plan(tmp_path, arrivals=Constant(400, 60)), FakeClient(behave), stop=stop)

    assert summary.failed >= 10
    assert {record.status for record in records} == {"OK", "CANCELLED", UNSENT}


async def test_a_second_signal_ends_the_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_loop, "STOP_GRACE_S", 3_600)
    stop = Stop()

    def behave(number: int) -> Any:
        if number == 20:
            stop.ask("SIGINT")
            asyncio.get_running_loop().call_soon(stop.ask, "SIGTERM")
        return asyncio.Event().wait() if number >= 10 else None

    summary, _ = await driven(load_plan(tmp_path, arrivals=Constant(400, 60)), FakeClient(behave), stop=stop)

    assert summary.stopped_by == "SIGINT"


async def test_a_run_stopped_in_the_warm_up_sends_nothing(tmp_path: Path) -> None:
    stop = Stop()

    def behave(number: int) -> Any:
        assert number == 0, "only the warm-up is ever sent"
        stop.ask("SIGINT")
        return asyncio.Event().wait()

    summary, _ = await driven(load_plan(tmp_path), FakeClient(behave), stop=stop)

    assert (summary.unsent, summary.sent, summary.achieved_rate) == (100, 0, 0.0)


async def test_a_full_disk_breaks_the_run_off_with_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(SpoolWriter, "append", full)
    plan = load_plan(tmp_path, arrivals=Constant(400, 60))
    client = FakeClient()

    with pytest.raises(RunError, match="cannot be written: No space left on device"):
        await driven(plan, client)

    assert len(client.calls) < 24_000
    assert client.closed


async def test_the_spool_of_another_run_is_left_alone(tmp_path: Path) -> None:
    plan = load_plan(tmp_path)
    plan.spool.write_text("evidence")

    with pytest.raises(RunError, match="does not exist"):
        await driven(plan, FakeClient())

    assert plan.spool.read_text() == "evidence"


async def test_the_last_progress_tells_of_all_requests(tmp_path: Path) -> None:
    lines: list[Progress] = []
    summary, _ = await driven(load_plan(tmp_path), FakeClient(), report=lines.append)

    last = lines[-1]
    assert (last.sent, last.done, last.ok, last.failed, last.in_flight) == (100, 100, 100, 0, 0)
    assert last.elapsed_s >= round(summary.wall_s, 3) > 0
    assert last.remaining_s == 0


# Streams


async def test_a_stream_is_one_record_with_all_its_items(tmp_path: Path) -> None:
    plan = load_plan(tmp_path, streams=10)

    _, records = await driven(plan, FakeClient())

    streams = [record for record in records if record.streamed]
    assert [each.sequence for each in streams] == [n for n in range(100) if plan.is_stream(n, plan.use_cases[0])]
    titles = [f"t{number:02}" for number in range(10)]
    for record in streams:
        assert (record.status, record.version, record.item_id, record.score) == ("OK", "v1", "t00", 0.75)
        assert record.items.split() == titles
        assert record.items_digest
        assert 0 < record.first_item_ns <= record.done_ns - record.sent_ns
    assert {(each.items, each.first_item_ns) for each in records if not each.streamed} == {("", 0)}


async def test_a_stream_that_breaks_off_keeps_the_items_that_came(tmp_path: Path) -> None:
    def break_off(number: int) -> None:
        if number % 10 == 4:
            raise CallError(grpc.StatusCode.UNAVAILABLE, "connection reset")

    _, records = await driven(load_plan(tmp_path, streams=100, arrivals=Constant(1, 1)), FakeClient(break_off))

    [record] = records
    assert (record.status, record.streamed, record.items) == ("UNAVAILABLE", 1, "t00 t01 t02")  # call 0 is the warm-up
