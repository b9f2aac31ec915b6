import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Timer

import orjson
import pytest

from lab.errors import RunError
from lab.history import read_spool
from lab.load.coordinator import BEGAN
from lab.load.plan import write_plan
from lab.load.progress import Progress, ProgressLines, percentile_ms
from lab.runtime.cancellation import CancelToken
from lab.runtime.driver_process import run_here
from tests.load.builders import GatedServer, load_plan
from tests.load.driven import ROOT, completed, driver_of, ended


async def test_a_run_to_its_end_leaves_a_history_a_summary_and_progress(tmp_path: Path, server: GatedServer) -> None:
    plan = load_plan(tmp_path, server.address)

    out = await completed(plan)

    first, *_, last = (Progress.from_line(line) for line in out.splitlines())
    assert 0 < first.done < last.ok == 100, "nobody who waits for a first answer waits for a second"
    summary = orjson.loads(plan.summary.read_bytes())
    assert (summary["planned"], summary["sent"], summary["stopped_by"]) == (100, 100, "")
    assert {record.sequence for record in read_spool(plan.spool)} == set(range(100))


@pytest.mark.parametrize("drivers", [1, 2])
@pytest.mark.parametrize("after_s", [0.0, 0.1])
async def test_a_stop_as_soon_as_the_driver_starts_is_kept(
    tmp_path: Path, server: GatedServer, drivers: int, after_s: float
) -> None:
    plan = replace(load_plan(tmp_path, server.address), drivers=drivers)
    write_plan(plan, tmp_path / "plan.json")
    token = CancelToken()
    Timer(after_s, token.cancel).start() if after_s else token.cancel()

    status = await asyncio.to_thread(run_here, tmp_path, lambda _: None, errors=None, cancel_token=token)

    summary = orjson.loads(plan.summary.read_bytes())
    assert (status, summary["stopped_by"]) == (0, "SIGINT")
    assert summary["sent"] < summary["planned"] == 100


@pytest.mark.parametrize(("drivers", "shares"), [(1, [200]), (2, [100, 100]), (9, [100, 100])])
async def test_the_plans_of_a_folder_start_together_however_many_drivers_share_them(
    tmp_path: Path, server: GatedServer, drivers: int, shares: list[int]
) -> None:
    plans = []
    for name in ("homepage", "search"):
        (tmp_path / name).mkdir()
        plans.append(load_plan(tmp_path / name, server.address))
        write_plan(plans[-1], tmp_path / name / "plan.json")

    code, _, err = await ended(await driver_of(tmp_path, drivers))

    assert (code, err) == (0, "")
    began_ns = int((tmp_path / BEGAN).read_text())
    for plan in plans:
        records = read_spool(plan.spool)
        assert [began_ns, 100] == [min(record.intended_ns for record in records), len(records)]
        assert orjson.loads(plan.summary.read_bytes())["sent"] == 100
    summary = orjson.loads((tmp_path / "driver.json").read_bytes())
    assert (summary["planned"], summary["ok"]) == (200, 200)
    assert [each["planned"] for each in summary["drivers"]] == shares


def test_a_plan_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    plan = str(tmp_path / "plan.json")
    for arguments in ([plan], [], [plan, "2"], [str(tmp_path)], [str(tmp_path), "two"]):
        ended = subprocess.run(
            [sys.executable, "-m", "lab.load.driver", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert (ended.returncode, len(ended.stderr.splitlines())) == (1, 1)


def test_the_driver_stays_small() -> None:
    heavy = {"numpy", "pyarrow", "pydantic", "yaml", "rich", "typer", "locust", "gevent"}
    code = f"import sys, lab.load.driver; print(*{heavy} & set(sys.modules))"

    seen = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert seen.strip() == ""


def test_a_progress_line_gives_back_the_progress() -> None:
    progress = Progress(
        elapsed_s=1.0, sent=9, done=8, ok=7, failed=1, in_flight=1, rate=8.0, p50_ms=0.5, p99_ms=2.0, remaining_s=4.0
    )

    assert Progress.from_line(progress.to_line()) == progress
    for line in ("", "noise", "[]", '{"sent": 1}'):
        with pytest.raises(RunError, match="not progress"):
            Progress.from_line(line)


def test_the_rate_of_progress_is_of_what_was_done_since_the_line_before() -> None:
    lines = ProgressLines()
    before, first, second, last = (
        lines.take(elapsed_ns=elapsed_ns, done=done, sent=90, ok=10, remaining_ns=0, recent_ns=[])
        for elapsed_ns, done in ((-20_000_000, 0), (500_000_000, 20), (1_500_000_000, 80), (1_500_000_000, 80))
    )

    assert tuple(progress.rate for progress in (before, first, second, last)) == (0.0, 40.0, 60.0, 0.0)
    assert (second.failed, second.in_flight, second.elapsed_s) == (70, 10, 1.5)


def test_percentiles_of_progress_are_nearest_ranks() -> None:
    assert (percentile_ms([], 50), percentile_ms([5_000_000], 50), percentile_ms([5_000_000], 99)) == (0.0, 5.0, 5.0)
    assert tuple(percentile_ms([n * 1_000_000 for n in range(1, 101)], p) for p in (50, 99)) == (50.0, 99.0)
