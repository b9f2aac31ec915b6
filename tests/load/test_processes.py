"""Several drivers that share a run: together they do what one would, and none of them is left behind."""

import asyncio
import os
import signal
import sys
from functools import partial
from pathlib import Path

import orjson
import psutil
import pytest

from lab.history import UNSENT
from lab.load.arrivals import Constant, Poisson, Share
from lab.load.coordinator import ShardProcess, Shards
from lab.load.mix import Mix
from lab.load.open_loop import NS
from lab.load.plan import UseCase
from lab.load.progress import Progress
from lab.load.steps import TearEvery
from tests.load.builders import GatedServer, load_plan
from tests.load.driven import DEADLINE_S, children, completed, ended, outcome_of, progress_of, recorded, running, spools
from tests.waiting import eventually

USE_CASES = (UseCase("ContinueWatchingRanking", "ranking.v1"), UseCase("HomepageRows", "ranking.v1"))
LONG = Constant(40, 600)
LONG_REQUESTS = 24_000
ENOUGH = 12  # for some of each process to be on disk


def shares(of: int) -> list[Share]:
    return [Share(first, of) for first in range(of)]


@pytest.mark.parametrize("of", [1, 2, 3, 200])
def test_shares_cover_the_schedule_exactly(tmp_path: Path, of: int) -> None:
    whole = load_plan(tmp_path, arrivals=Poisson(400, 0.25, 1)).schedule()

    parts = [whole.of(share) for share in shares(of)]

    arrivals = [
        (part.share.first + place * part.share.step, offset, size)
        for part in parts
        for place, (offset, size) in enumerate(zip(part.offsets_ns, part.payload_bytes, strict=True))
    ]
    assert [(n, *pair) for n, pair in enumerate(zip(whole.offsets_ns, whole.payload_bytes, strict=True))] == sorted(
        arrivals
    )
    assert whole.offered_rps == pytest.approx(sum(part.offered_rps for part in parts))


@pytest.mark.parametrize("of", [1, 2, 3])
@pytest.mark.parametrize("use_cases", [USE_CASES[:1], USE_CASES])
def test_each_request_is_the_same_from_every_process(tmp_path: Path, use_cases: tuple[UseCase, ...], of: int) -> None:
    plan = load_plan(tmp_path, use_cases=use_cases, contexts={"device": ("tv", "phone"), "segment": ("a", "b", "c")})
    alone = Mix(plan)
    expected = [alone.draw() for _ in range(60)]

    mixes = [Mix(plan, share) for share in shares(of)]

    assert [mixes[n % of].draw() for n in range(60)] == expected


@pytest.mark.parametrize("of", [1, 2, 3, 7])
@pytest.mark.parametrize("every", [1, 3, 10])
def test_shares_tear_as_many_as_one_would(of: int, every: int) -> None:
    tears = [TearEvery(every, share) for share in shares(of)]

    torn = [n for n in range(210) if tears[n % of].is_next()]

    assert list(range(every - 1, 210, every)) == torn


async def gone(processes: list[psutil.Process]) -> bool:
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, DEADLINE_S)
    return not alive


@pytest.mark.parametrize("drivers", [2, 3])
async def test_together_they_do_what_one_would(tmp_path: Path, server: GatedServer, drivers: int) -> None:
    plan = load_plan(
        tmp_path, server.address, arrivals=Poisson(400, 2.5, 1), use_cases=USE_CASES, users=7, drivers=drivers
    )

    out = await completed(plan)

    records = recorded(plan)
    schedule, alone = plan.schedule(), Mix(plan)
    assert list(range(len(schedule))) == [record.sequence for record in records]
    assert {record.status for record in records} == {"OK"}
    assert len(records) == len({record.request_id for record in records})
    for record in records:
        ask = alone.draw()
        assert (ask.use_case.name, ask.context["user_id"]) == (record.use_case, record.user_id)
        since_first_ns = schedule.offsets_ns[record.sequence] - schedule.offsets_ns[0]
        assert since_first_ns == record.intended_ns - records[0].intended_ns
    summary = orjson.loads(plan.summary.read_bytes())
    assert tuple(
        summary[name] for name in ("processes", "planned", "ok", "failed", "stopped_by", "warm_up_errors")
    ) == (drivers, len(schedule), len(schedule), 0, "", {})
    assert schedule.offered_rps == pytest.approx(summary["offered"])
    assert summary["schedule_delay_max_ms"] >= summary["schedule_delay_p50_ms"] > 0
    assert summary["cpu_s"] > 0
    lines = [Progress.from_line(line) for line in out.splitlines()]
    assert (len(schedule), len(schedule), 0) == (lines[-1].done, lines[-1].ok, lines[-1].in_flight)
    first = next(line for line in lines if line.done)
    assert first.p99_ms >= first.p50_ms > 0
    assert first.rate > 0


_SHARD = """
import json, sys
def report(second, done):
    counts = dict(elapsed_ns=round(second * 1e9), remaining_ns=0, sent=done, done=done, ok=done, recent_ns=[])
    print(json.dumps({"counts": counts}), flush=True)
for line in sys.stdin:
    report(*map(float, line.split()[1].split(",")))
"""


def has_come(shard: ShardProcess, second: float) -> bool:
    return shard.counts["elapsed_ns"] == round(second * NS)


async def test_their_rates_add_up_whenever_each_reports() -> None:
    shards = Shards([(name, [sys.executable, "-c", _SHARD]) for name in ("prompt", "late")])
    await shards.start()
    prompt, late = shards.processes

    async def rate(*reports: tuple[ShardProcess, float, int]) -> float:
        for shard, second, done in reports:
            shard.send(f"report {second},{done}")
            await eventually("the report is here", partial(has_come, shard, second))
        return shards.take_progress().rate

    try:
        # Each does 100 in a second after the first, which it takes to get going.
        assert await rate((prompt, 1.0, 0)) == 0
        assert await rate((prompt, 2.0, 100), (late, 1.9, 0)) == 100
        assert await rate((prompt, 3.0, 200)) == 100, "no word from the other"
        assert await rate((prompt, 4.0, 300), (late, 3.9, 200)) == 200, "not its two seconds' work in one"
        assert await rate() == 0
    finally:
        await shards.kill()


async def test_more_processes_than_requests_do_no_harm(tmp_path: Path, server: GatedServer) -> None:
    plan = load_plan(tmp_path, server.address, arrivals=Constant(2, 1), drivers=3)

    await completed(plan)

    assert sorted(record.sequence for record in recorded(plan)) == [0, 1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("drivers", "to_all"), [(1, False), (2, False), (2, True)])
async def test_a_signal_ends_all_with_every_request_accounted_for(
    tmp_path: Path, server: GatedServer, number: signal.Signals, drivers: int, *, to_all: bool
) -> None:
    plan = load_plan(tmp_path, server.address, arrivals=LONG, drivers=drivers)

    async with running(plan) as process:
        await progress_of(process)
        members = children(process)
        server.gate.clear()  # so that a request is in flight
        server.waiting_for = server.received + 1
        await asyncio.wait_for(server.enough.wait(), DEADLINE_S)
        if to_all:
            for member in members:
                member.send_signal(number)
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        server.gate.set()
        code, out, err = await ended(process)

    assert (code, err) == (0, "")
    assert await gone(members)
    records = recorded(plan)
    summary = orjson.loads(plan.summary.read_bytes())
    assert sorted(record.sequence for record in records) == list(range(LONG_REQUESTS))
    assert (number.name, LONG_REQUESTS, 0) == (summary["stopped_by"], summary["planned"], summary["failed"])
    assert 0 < summary["sent"] < LONG_REQUESTS
    assert summary["unsent"] == sum(record.status == UNSENT for record in records)
    assert summary["sent"] == Progress.from_line(out.splitlines()[-1]).done
    assert {record.status for record in records} == {"OK", UNSENT}, "what was in flight may finish"


async def test_a_signal_before_the_start_ends_all_with_nothing_sent(tmp_path: Path, server: GatedServer) -> None:
    plan = load_plan(tmp_path, server.address, arrivals=LONG, drivers=2)
    server.gate.clear()
    server.waiting_for = 1

    async with running(plan) as process:
        await asyncio.wait_for(server.enough.wait(), DEADLINE_S)  # one is warming up
        process.send_signal(signal.SIGINT)
        code, _, err = await ended(process)

    assert (code, err) == (0, "")
    assert {record.status for record in recorded(plan)} == {UNSENT}


async def test_a_process_killed_in_the_warm_up_is_named_and_leaves_no_spool(
    tmp_path: Path, server: GatedServer
) -> None:
    plan = load_plan(tmp_path, server.address, drivers=2)
    server.gate.clear()
    server.waiting_for = 2

    async with running(plan) as process:
        await asyncio.wait_for(server.enough.wait(), DEADLINE_S)
        members = children(process)
        members[0].kill()
        code, _, err = await ended(process)

    assert (code, len(err.splitlines())) == (1, 1)
    assert f"driver 1 of 2 (pid {members[0].pid}) was killed by SIGKILL" in err
    assert await gone(members)
    assert not spools(plan)


@pytest.mark.parametrize(("drivers", "count"), [(1, 0), (2, 2)])
async def test_a_killed_driver_leaves_its_records_and_no_process(
    tmp_path: Path, server: GatedServer, drivers: int, count: int
) -> None:
    plan = load_plan(tmp_path, server.address, arrivals=LONG, drivers=drivers)

    async with running(plan) as process:
        progress = await progress_of(process, until=lambda progress: progress.done >= ENOUGH)
        members = children(process)
        process.kill()
        code, _, _ = await ended(process)
        assert await gone(members)

    assert code == -signal.SIGKILL
    assert len(members) == count
    # Records of the instant before that line may not have been flushed.
    assert len(recorded(plan)) >= progress.done // 2 > 0
    assert not plan.summary.exists()


async def test_a_leader_that_is_killed_in_the_warm_up_leaves_nobody(tmp_path: Path, server: GatedServer) -> None:
    plan = load_plan(tmp_path, server.address, drivers=2)
    server.gate.clear()
    server.waiting_for = 2

    async with running(plan) as process:
        await asyncio.wait_for(server.enough.wait(), DEADLINE_S)
        members = children(process)
        process.kill()
        assert await gone(members)

    assert len(members) == 2


@pytest.mark.parametrize("drivers", [1, 2])
async def test_an_unknown_topology_is_one_line_and_leaves_no_spool(tmp_path: Path, drivers: int) -> None:
    endpoints = load_plan(tmp_path, "127.0.0.1:1").endpoints
    plan = load_plan(tmp_path, topology="nowhere", endpoints=endpoints, drivers=drivers)

    code, _, err = await outcome_of(plan)

    assert (code, len(err.splitlines())) == (1, 1)
    assert "'nowhere' is not known" in err
    assert not spools(plan)


async def test_the_spool_of_another_run_is_left_alone(tmp_path: Path) -> None:
    plan = load_plan(tmp_path, "127.0.0.1:1", drivers=2)
    plan.spool_of(1).write_text("evidence")

    code, _, err = await outcome_of(plan)

    assert (code, len(err.splitlines())) == (1, 1)
    assert "already exists" in err
    assert plan.spool_of(1).read_text() == "evidence"
