"""Several drivers that share a run, each with clock and records of its own: together they do what one would."""

import json
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from random import Random
from typing import Any

import orjson
import psutil
import pytest

from lab.checkers import Driver, Outcome
from lab.checkers.kinds import drivers as checker
from lab.history import SpoolWriter, values_of
from lab.load.arrivals import Constant, Poisson
from lab.load.clocks import Sample, clock_of
from lab.load.coordinator import COMMANDS
from lab.load.open_loop import NS
from lab.load.plan import LoadPlan, UseCase
from lab.load.summary import summarize
from tests.checkers.builders import START_NS, STEP_NS, make_evidence, make_record
from tests.load.builders import GatedServer, load_plan
from tests.load.driven import children, completed, ended, outcome_of, progress_of, recorded, running
from tests.missing import missing

USE_CASES = (UseCase("ContinueWatchingRanking", "ranking.v1"), UseCase("HomepageRows", "ranking.v1"))
LONG = Constant(40, 600)
# A time namespace of its own, as on another machine; the Unix clock is the machine's.
ELSEWHERE = ("unshare", "--user", "--map-root-user", "--time", "--fork", "--kill-child", "--monotonic")
AHEAD_S = 3 * 3_600


def reports(plan: LoadPlan) -> list[dict[str, Any]]:
    return list(orjson.loads(plan.summary.read_bytes())["drivers"])


def judged(plan: LoadPlan) -> tuple[Outcome, str]:
    names = [each.name for each in fields(Driver)]
    found = [Driver(**{name: each[name] for name in names}) for each in reports(plan)]
    verdict = checker.check(make_evidence([], drivers=found))
    assert verdict is not None
    return verdict.outcome, verdict.summary


@pytest.mark.parametrize("drivers", [1, 2, 4])
def test_figures_are_of_records_however_they_were_parted(tmp_path: Path, drivers: int) -> None:
    plan = load_plan(tmp_path, arrivals=Poisson(200, 2.5, 1), drivers=drivers)
    draw, schedule = Random(3), plan.schedule()  # noqa: S311 (no secret)
    records = [make_record(n, done_ns=START_NS + n * STEP_NS + draw.randrange(10**9)) for n in range(len(schedule))]
    for number in range(drivers):
        with SpoolWriter(plan.spool_of(number)) as spool:
            for record in records[number::drivers]:
                spool.append(values_of(record))

    assert summarize(recorded(plan), schedule) == summarize(records, schedule)


async def test_clocks_that_differ_by_hours_make_one_time_scale(tmp_path: Path, server: GatedServer) -> None:
    if shutil.which("unshare") is None or subprocess.run([*ELSEWHERE, "1", "true"], check=False).returncode:  # noqa: ASYNC221 (before the run)
        missing("this machine makes no time namespaces: Linux 5.6 and unprivileged user namespaces")
    plan = load_plan(tmp_path, server.address, arrivals=Constant(100, 1), drivers=2)
    shard = [sys.executable, "-m", "lab.load.shard", str(tmp_path / "plan.json")]
    commands = [("here", [*shard, "0/2"]), ("elsewhere", [*ELSEWHERE, str(AHEAD_S), *shard, "1/2"])]
    (tmp_path / COMMANDS).write_text(json.dumps(commands))

    await completed(plan)

    records, schedule = recorded(plan), plan.schedule()
    assert [record.intended_ns - records[0].intended_ns for record in records] == list(schedule.offsets_ns)
    assert all(record.sent_ns - record.intended_ns < NS for record in records)
    assert orjson.loads(plan.summary.read_bytes())["wall_s"] < AHEAD_S
    assert judged(plan)[0] == Outcome.VALID


@pytest.mark.timeout(120)
async def test_a_frozen_driver_makes_the_verdict_unknown_and_is_named(tmp_path: Path, server: GatedServer) -> None:
    plan = load_plan(tmp_path, server.address, arrivals=LONG, drivers=3)
    async with running(plan) as process:
        await progress_of(process)
        frozen = children(process)[1]
        frozen.suspend()

        code, _, err = await ended(process)

    outcome, summary = judged(plan)
    named = f"driver 2 of 3 (pid {frozen.pid}) was silent for"
    assert (code, outcome) == (1, Outcome.UNKNOWN)
    assert named in summary
    assert named in err
    assert not psutil.pid_exists(frozen.pid)
    assert {record.sequence % 3 for record in recorded(plan)[-30:]} == {0, 2}


async def test_a_driver_that_dies_is_named_and_the_others_are_stopped(tmp_path: Path, server: GatedServer) -> None:
    plan = load_plan(tmp_path, server.address, arrivals=LONG, drivers=2)
    async with running(plan) as process:
        await progress_of(process)
        killed = children(process)[0]
        killed.kill()

        code, _, err = await ended(process)

    outcome, summary = judged(plan)
    assert (code, outcome) == (1, Outcome.UNKNOWN)
    assert f"driver 1 of 2 (pid {killed.pid}) was killed by SIGKILL" in summary
    assert "Traceback" not in err
    assert [each["planned"] is None for each in reports(plan)] == [True, False]
    assert orjson.loads(plan.summary.read_bytes())["stopped_by"] == "driver"


async def test_a_driver_that_cannot_begin_ends_the_run(tmp_path: Path, server: GatedServer) -> None:
    plan = load_plan(tmp_path, server.address, topology="nowhere", drivers=2)

    code, out, err = await outcome_of(plan)

    assert (code, out) == (1, "")
    assert "nowhere" in err
    assert len(err.splitlines()) == 1
    assert not [number for number in range(2) if plan.spool_of(number).exists()]


def test_the_clock_is_read_from_the_quickest_answer() -> None:
    samples = [Sample(0, 5_000, 0, 9_000), Sample(10_000, 10_600, 0, 11_000), Sample(20_000, 25_000, 0, 30_001)]

    clock = clock_of(samples)

    assert (clock.ahead_ns, clock.error_ns) == (100, 500)


def report(**changes: Any) -> Driver:
    good: dict[str, Any] = {
        "name": "driver 1 of 2",
        "clock_ms": 120.0,
        "clock_error_ms": 0.5,
        "drift_ms": -0.2,
        "silent_s": 1.1,
        "problem": "",
    }
    return Driver(**{**good, **changes})


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ({}, ""),
        ({"drift_ms": -9.6}, "driver 2 of 2 has a clock that may be 10.1 ms off, -9.6 ms of it drift; "),
        (
            {"clock_error_ms": 11.0, "drift_ms": 0.2},
            "driver 2 of 2 has a clock that may be 11.2 ms off, +0.2 ms of it drift; ",
        ),
        ({"drift_ms": None}, "driver 2 of 2 did not say what time it is; "),
        ({"silent_s": 5.1}, "driver 2 of 2 stalled: no report for 5.1 s; "),
        ({"problem": "was killed by SIGKILL"}, "driver 2 of 2 was killed by SIGKILL; "),
    ],
)
def test_a_verdict_names_the_driver_that_spoils_it(changes: dict[str, Any], because: str) -> None:
    verdict = checker.check(make_evidence([], drivers=[report(), report(name="driver 2 of 2", **changes)]))

    assert verdict is not None
    assert verdict.outcome == (Outcome.UNKNOWN if changes else Outcome.VALID)
    assert verdict.summary.startswith(f"{because}2 drivers; clocks 120.00 ms apart, known to ")


def test_a_run_of_one_driver_has_no_such_verdict() -> None:
    assert checker.check(make_evidence([])) is None
