"""Runs that Locust drives, as processes, against a real server; each leaves the history that its verdict needs."""

import asyncio
import re
import signal
import socket
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import orjson
import psutil
import pytest

from lab.checkers.evidence import prefix_of
from lab.history import UNSENT, read_spool
from lab.load.arrivals import Constant
from lab.load.plan import OPEN_LOOP, read_plan, write_plan
from lab.load.progress import Progress
from lab.plugins.locust.plan import EXAMPLE
from lab.runs.folder import RunFolder
from tests.load.builders import GatedServer, load_plan
from tests.load.driven import DEADLINE_S, children, completed, ended, outcome_of, progress_of, running
from tests.plugins.locust.builders import by_locust
from tests.ports import free_port
from tests.waiting import eventually

TWO_WORKERS = by_locust(workers=2)


@pytest.mark.parametrize("workers", [0, 2])
async def test_every_request_of_the_plan_is_sent_once_and_recorded_once(
    tmp_path: Path, server: GatedServer, workers: int
) -> None:
    locust = by_locust(workers=workers)
    plan = load_plan(tmp_path, server.address, arrivals=Constant(100, 1), users=11, engine=locust)
    plan = replace(plan, id_prefix="1f3a")

    out = await completed(plan)

    records = read_spool(plan.spool)
    # By prefix, as each worker's client has leases of its own.
    assert {prefix_of(record.request_id) for record in records} == {f"1f3a.{n}" for n in range(max(1, workers))}
    assert sorted(record.sequence for record in records) == list(range(100))
    assert 100 == len({record.request_id for record in records}) == server.received - max(1, workers)
    assert {record.status for record in records} == {"OK"}
    assert all(record.intended_ns <= record.sent_ns <= record.done_ns for record in records)
    start = min(record.intended_ns for record in records)
    assert [number * 10_000_000 for number in range(100)] == sorted(record.intended_ns - start for record in records)
    assert {f"u{number}" for number in range(11)} >= {record.user_id for record in records}
    summary = orjson.loads(plan.summary.read_bytes())
    assert tuple(summary[name] for name in ("planned", "sent", "unsent", "stopped_by", "offered")) == (
        100,
        100,
        0,
        "",
        100.0,
    )
    assert Progress.from_line(out.splitlines()[-1]).ok == 100


async def test_a_stall_shows_in_all_requests_that_were_due_meanwhile(tmp_path: Path, server: GatedServer) -> None:
    # Three users, who all wait for the gate: the others' turns come and nobody is free.
    plan = load_plan(tmp_path, server.address, arrivals=Constant(50, 2), users=3, engine=by_locust())
    server.waiting_for = 4  # the warm-up, and the users

    async with running(plan) as process:
        server.received = 0
        await eventually("the warm-up call is there", lambda: server.received)
        server.gate.clear()
        await asyncio.wait_for(server.enough.wait(), DEADLINE_S)
        await progress_of(process, until=lambda progress: progress.elapsed_s > 1)
        server.gate.set()
        code, _, _ = await ended(process)

    records = sorted(read_spool(plan.spool), key=lambda record: record.intended_ns)
    assert code == 0
    assert sorted(record.sequence for record in records) == list(range(100))
    stalled_until = max(records[:3], key=lambda record: record.done_ns).done_ns
    held_up = [record for record in records[3:] if record.intended_ns < stalled_until]
    assert len(held_up) > 20
    assert all(record.done_ns - record.intended_ns >= record.done_ns - stalled_until for record in held_up)
    assert all(record.done_ns >= stalled_until for record in held_up)


@pytest.mark.parametrize("workers", [0, 2])
async def test_a_signal_ends_it_with_every_request_accounted_for_and_no_process_left(
    tmp_path: Path, server: GatedServer, workers: int
) -> None:
    locust = by_locust(workers=workers)
    plan = load_plan(tmp_path, server.address, arrivals=Constant(100, 100), users=10, engine=locust)

    async with running(plan) as process:
        await progress_of(process)
        theirs = children(process)
        process.send_signal(signal.SIGINT)
        code, _, err = await ended(process)

    assert (code, err) == (0, "")
    assert len(theirs) == workers
    assert not [each for each in theirs if each.is_running()]
    records = read_spool(plan.spool)
    assert sorted(record.sequence for record in records) == list(range(10_000))
    summary = orjson.loads(plan.summary.read_bytes())
    assert (summary["stopped_by"], summary["planned"]) == ("SIGINT", 10_000)
    assert 0 < summary["sent"] < 10_000
    assert summary["unsent"] == sum(record.status == UNSENT for record in records)


async def test_a_run_stopped_before_it_has_begun_accounts_for_every_request(
    tmp_path: Path, server: GatedServer
) -> None:
    plan = load_plan(tmp_path, server.address, arrivals=Constant(100, 10), users=10, engine=TWO_WORKERS)

    async with running(plan) as process:
        # Signals are heeded by then, and workers are not there yet.
        await eventually("the spool is there", plan.spool.exists)
        process.send_signal(signal.SIGTERM)
        code, _, err = await ended(process)

    assert (code, err) == (0, "")
    records = read_spool(plan.spool)
    assert sorted(record.sequence for record in records) == list(range(1_000))
    assert {record.status for record in records} == {UNSENT}


async def test_workers_end_with_a_driver_that_is_killed(tmp_path: Path, server: GatedServer) -> None:
    plan = load_plan(tmp_path, server.address, arrivals=Constant(100, 100), users=10, engine=TWO_WORKERS)

    async with running(plan) as process:
        await progress_of(process)
        theirs = children(process)
        process.kill()
        await asyncio.to_thread(psutil.wait_procs, theirs, DEADLINE_S)

    assert len(theirs) == 2
    assert not [each for each in theirs if each.is_running()]
    assert read_spool(plan.spool)


async def test_a_worker_that_dies_breaks_the_run_off_by_name(tmp_path: Path, server: GatedServer) -> None:
    plan = load_plan(tmp_path, server.address, arrivals=Constant(100, 100), users=10, engine=TWO_WORKERS)

    async with running(plan) as process:
        await progress_of(process)
        theirs = children(process)
        theirs[0].kill()
        code, _, err = await ended(process)

    assert code == 1
    assert re.fullmatch(r"worker \d ended with status -9", err.splitlines()[-1])
    assert not [each for each in theirs if each.is_running()]
    assert not plan.summary.exists()


async def test_a_users_locustfile_decides_the_requests(tmp_path: Path, server: GatedServer) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from locust import constant, task\n"
        "from lab.plugins.locust import LabUser\n"
        "class Person(LabUser):\n"
        "    wait_time = constant(0.05)\n"
        "    @task\n"
        "    def look(self):\n"
        "        answer = self.ask('ContinueWatchingRanking', {'device': 'watch', 'user_id': 'me'}, payload=2_000)\n"
        "        assert (answer.status, answer.version) == ('OK', 'v1')\n"
    )
    locust = by_locust(mine, workers=1, closed_loop=True)
    plan = load_plan(tmp_path, server.address, arrivals=Constant(100, 1), users=4, engine=locust)

    await completed(plan)

    records = read_spool(plan.spool)
    assert len(records) > 4
    assert {(record.device, record.user_id, record.status) for record in records} == {("watch", "me", "OK")}
    assert all(1_900 <= record.payload_bytes <= 2_100 for record in records)
    summary = orjson.loads(plan.summary.read_bytes())
    assert (len(records), None, "") == (summary["planned"], summary["offered"], summary["stopped_by"])


@pytest.mark.parametrize(
    ("asked", "why"), [("'Nope'", "the use case 'Nope' is not in this run"), ("None, {'shoe': '1'}", "no field 'shoe'")]
)
async def test_an_unknown_use_case_or_field_is_one_line(
    tmp_path: Path, server: GatedServer, asked: str, why: str
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from locust import task\nfrom lab.plugins.locust import LabUser\n"
        f"class Person(LabUser):\n    @task\n    def look(self):\n        self.ask({asked})\n"
    )
    plan = load_plan(tmp_path, server.address, users=2, engine=by_locust(mine, workers=1))

    code, _, err = await outcome_of(plan)

    assert code == 1
    assert why in err.splitlines()[-1]


async def test_the_ui_steers_a_run_on_this_machine_only(tmp_path: Path, server: GatedServer) -> None:
    port = free_port()
    locust = by_locust(workers=1, ui_port=port)
    plan = load_plan(tmp_path, server.address, arrivals=Constant(100, 1), users=10, engine=locust)
    ui = f"http://127.0.0.1:{port}"

    async with running(plan) as process:
        await progress_of(process, until=lambda _: True)
        assert await asyncio.to_thread(asked, ui) == 200
        for header in ({"Origin": "http://elsewhere.example"}, {"Host": "elsewhere.example"}):
            assert await asyncio.to_thread(asked, f"{ui}/swarm", b"user_count=5&spawn_rate=5", header) == 403
        assert await asyncio.to_thread(asked, f"{ui}/swarm", b"user_count=5&spawn_rate=5") == 200
        last = await progress_of(process, until=lambda progress: progress.done > 20)
        assert last.remaining_s is None
        assert await asyncio.to_thread(asked, f"{ui}/quit", b"") == 200
        code, _, err = await ended(process)

    assert (code, err) == (0, "")
    records = read_spool(plan.spool)
    summary = orjson.loads(plan.summary.read_bytes())
    assert (len(records), None, "ui") == (summary["planned"], summary["offered"], summary["stopped_by"])
    assert len(records) == len({record.sequence for record in records}) > 20


def asked(url: str, data: bytes | None = None, headers: dict[str, str] | None = None) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers or {}), timeout=10) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


async def test_a_taken_port_is_one_line(tmp_path: Path, server: GatedServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        locust = by_locust(ui_port=taken.getsockname()[1])
        async with running(load_plan(tmp_path, server.address, engine=locust)) as process:
            code, _, err = await ended(process)

    assert (code, len(err.splitlines())) == (1, 1)
    assert "--ui-port" in err


def test_its_part_of_a_plan_comes_back_from_the_file_also_as_older_labs_wrote_it(tmp_path: Path) -> None:
    locust = by_locust(tmp_path / "locustfile.py", workers=3, ui_port=8089, closed_loop=True, decides=("device",))
    (tmp_path / "locustfile.py").write_bytes(EXAMPLE.read_bytes())
    plan = load_plan(tmp_path, engine=replace(locust, files={"locustfile.py": Path("locustfile.py")}))
    write_plan(plan, tmp_path / "plan.json")

    assert read_plan(tmp_path / "plan.json").engine == RunFolder(tmp_path).plan.engine == locust
    document = orjson.loads((tmp_path / "plan.json").read_bytes())
    del document["engine"]
    for steering, engine in (
        ({"locustfile": "locustfile.py", "workers": 3, "ui_port": 8089, "closed_loop": True}, locust),
        (None, OPEN_LOOP),
    ):
        (tmp_path / "plan.json").write_bytes(orjson.dumps({**document, "steering": steering}))
        assert RunFolder(tmp_path).plan.engine == engine
    (tmp_path / "plan.json").write_bytes(orjson.dumps(document))
    assert RunFolder(tmp_path).plan.engine == OPEN_LOOP


async def test_a_run_ends_when_all_its_users_have_stopped(tmp_path: Path, server: GatedServer) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from locust import task\nfrom locust.exception import StopUser\nfrom lab.plugins.locust import LabUser\n"
        "class Person(LabUser):\n"
        "    @task\n"
        "    def look_once(self):\n"
        "        self.ask()\n"
        "        raise StopUser\n"
        "    def on_stop(self):\n"
        "        self.ask()\n"
    )
    plan = load_plan(tmp_path, server.address, arrivals=Constant(50, 1), users=5, timeout_s=0.5, engine=by_locust(mine))

    await completed(plan)

    records = read_spool(plan.spool)
    assert sorted(record.sequence for record in records) == list(range(50))
    assert sum(record.status == "OK" for record in records) == 10
    assert sum(record.status == UNSENT for record in records) == 40
    assert orjson.loads(plan.summary.read_bytes())["stopped_by"] == "users that stopped sending"


@pytest.mark.parametrize("workers", [0, 1])
async def test_a_task_that_raises_is_logged_once_a_kind_and_counted(
    tmp_path: Path, server: GatedServer, workers: int
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from itertools import count\nfrom locust import task\nfrom lab.plugins.locust import LabUser\n"
        "numbers = count()\n"
        "class Person(LabUser):\n"
        "    @task\n"
        "    def look(self):\n"
        "        self.ask()\n"
        "        number = next(numbers)\n"
        "        if number % 2:\n"
        "            raise KeyError(number)\n"
        "        raise ValueError(number)\n"
    )
    locust = by_locust(mine, workers=workers)
    async with running(
        load_plan(tmp_path, server.address, arrivals=Constant(50, 1), users=5, engine=locust)
    ) as process:
        code, _, err = await ended(process)

    assert code == 0
    assert err.count("Traceback") == 2
    assert [
        err.count(f"{each} at {mine}:{line}: raised 2") for each, line in (("KeyError", 11), ("ValueError", 12))
    ] == [1, 1]
