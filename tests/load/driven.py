"""A driver as a process of its own, as the runtimes start it, for the tests that look at it from outside."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil

from lab.history import Record, read_spool
from lab.load.plan import LoadPlan, write_plan
from lab.load.progress import Progress

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60


@contextlib.asynccontextmanager
async def running(plan: LoadPlan) -> AsyncIterator[asyncio.subprocess.Process]:
    """In a session of its own, so that a test may signal its whole group."""
    path = plan.summary.with_name("plan.json")
    write_plan(plan, path)
    process = await driver_of(path)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def driver_of(path: Path, *drivers: int) -> asyncio.subprocess.Process:
    """A driver of a plan's file, or of a folder of plans, which several may share."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lab.load.driver", str(path), *map(str, drivers)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


async def progress_of(
    process: asyncio.subprocess.Process, *, until: Callable[[Progress], bool] = lambda progress: progress.done > 0
) -> Progress:
    """The first progress that is enough."""
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        while True:
            progress = Progress.from_line((await process.stdout.readline()).decode())
            if until(progress):
                return progress


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, str, str]:
    """Its exit status, and all that it has said on standard output and standard error."""
    out, err = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    return process.returncode, out.decode(), err.decode()


async def outcome_of(plan: LoadPlan) -> tuple[int | None, str, str]:
    """Runs a driver to its end, and returns the same."""
    async with running(plan) as process:
        return await ended(process)


async def completed(plan: LoadPlan) -> str:
    """Runs a driver to its end, a success, and returns its standard output."""
    code, out, err = await outcome_of(plan)
    assert (code, err) == (0, "")
    return out


def children(process: asyncio.subprocess.Process) -> list[psutil.Process]:
    """The processes that it has started."""
    return psutil.Process(process.pid).children()


def recorded(plan: LoadPlan) -> list[Record]:
    """The records of all spools, in the order of the plan."""
    found = [record for spool in spools(plan) for record in read_spool(spool)]
    return sorted(found, key=lambda record: record.sequence)


def spools(plan: LoadPlan) -> list[Path]:
    return [spool for number in range(plan.drivers) if (spool := plan.spool_of(number)).exists()]
