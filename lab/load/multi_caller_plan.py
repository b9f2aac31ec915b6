"""Runs several load plans in one process: ``python -m lab.load.multi_caller_plan FOLDER``, with ``<name>/plan.json``.

For many callers with little traffic each. All start together when the last has warmed up; ``FOLDER/began`` then holds
the start time, Unix nanoseconds. SIGINT and SIGTERM abort all of them.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from lab.errors import LabError
from lab.load.driver import drive_share
from lab.load.engine import connect, raise_priority, write_summary
from lab.load.open_loop import Start, Stop
from lab.load.plan import read_plan
from lab.load.summary import combine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.load.plan import LoadPlan

_LEAD_NS = 200_000_000
BEGAN = "began"
"""Name of the file with the start time."""


async def run(plans: Sequence[LoadPlan], began: Path) -> None:
    """Runs all plans to their end, or until a signal, and writes a summary for each.

    Raises:
        LabError: see :func:`lab.load.driver.drive`.
    """
    stop, all_warm, warm = Stop(), asyncio.Event(), 0
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.ask, number.name)
    start: Start | None = None

    async def common_start() -> Start:
        nonlocal warm, start
        warm += 1
        if warm == len(plans):
            start = Start.soon(_LEAD_NS)
            began.write_text(str(start.at_ns + start.unix_offset_ns))  # noqa: ASYNC240 (no request is in flight yet)
            all_warm.set()
        await all_warm.wait()
        assert start is not None  # noqa: S101 (set before the event)
        return start

    async def drive(plan: LoadPlan) -> None:
        result = await drive_share(
            plan, plan.schedule(), connect(plan), stop, lambda _: None, common_start, new_spool=True
        )
        write_summary(plan, combine([result]))

    raise_priority()
    await asyncio.gather(*(drive(plan) for plan in plans))


def main(arguments: list[str]) -> None:
    """Runs the plans of a folder; exits with status 1 and one line on an error."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    if len(arguments) != 1:
        sys.exit("usage: python -m lab.load.multi_caller_plan FOLDER")
    folder = Path(arguments[0])
    try:
        plans = [read_plan(path) for path in sorted(folder.glob("*/plan.json"))]
        uvloop.run(run(plans, folder / BEGAN))
    except LabError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
