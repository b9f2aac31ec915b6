"""The driver: a process that runs a load plan. ``python -m lab.load.driver PLAN.json``.

It prints one JSON line of progress per second (:mod:`lab.load.progress`), and writes the history to the plan's spool
and its own summary to the plan's summary file. SIGINT and SIGTERM abort the run: no more requests are sent, those in
flight may finish, the rest is recorded as unsent. The exit status is 0 if every planned request has a record.

The plan names its engine, see :mod:`lab.load.engines`. That of the open loop coordinates a plan with several drivers
(:mod:`lab.load.coordinator`), each a :mod:`lab.load.shard`. If one of them fails, it writes the summary of the rest,
and says so.

``python -m lab.load.driver FOLDER [DRIVERS]``, with ``<name>/plan.json``, runs several plans: for many callers with
little traffic each. They are divided among that many drivers, one by default. All start together when the last has
warmed up; ``FOLDER/began`` then holds the start time, Unix nanoseconds, and in the end ``FOLDER/driver.json`` the
summary of all. It prints progress as for one plan.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import uvloop

from lab.errors import LabError, RunError
from lab.load.coordinator import PLANS, coordinate_plans
from lab.load.engines import ENGINES
from lab.load.plan import read_plan
from lab.load.steps import print_progress, raise_priority, write_summary
from lab.load.stop_signals import keep
from lab.load.summary import require_no_problem

_SUMMARY = "driver.json"  # of all plans of a folder


async def run_plans(folder: Path, drivers: int) -> None:
    """Runs the plans of a folder by several drivers, or until a signal, and writes a summary of all beside them.

    Raises:
        LabError: see :func:`lab.load.coordinator.coordinate_plans`.
    """
    raise_priority()
    summary = await coordinate_plans(folder, drivers, print_progress)
    write_summary(folder / _SUMMARY, summary)
    require_no_problem(summary)


def main(arguments: list[str]) -> None:
    """Runs the plan or the folder that is given; exits with status 1 and one line on an error."""
    keep()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    usage = "usage: python -m lab.load.driver PLAN.json|FOLDER [DRIVERS]"
    path, drivers = Path(*arguments[:1]), "".join(arguments[1:]) or "1"
    if not arguments or len(arguments) > 1 + path.is_dir() or not drivers.isdecimal():
        sys.exit(usage)
    try:
        if path.is_dir():
            if not (plans := len(list(path.glob(PLANS)))):
                raise RunError(f"{path}: holds no {PLANS}; name a folder of load plans, or one plan")
            uvloop.run(run_plans(path, min(int(drivers) or 1, plans)))
            return
        plan = read_plan(path)
        ENGINES[plan.engine.name].run(plan, path)
    except LabError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
