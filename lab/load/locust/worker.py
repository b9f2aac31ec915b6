"""A worker process: ``python -m lab.load.locust.worker PLAN.json K/N PORT``, with K from 0 to N - 1.

The driver starts and ends it. If the driver dies, standard input closes and the worker exits.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path

from lab.errors import LabError
from lab.load.arrivals import Share
from lab.load.locust.environment import MASTER_HOST, environment_of
from lab.load.locust.user_process import UserProcess
from lab.load.plan import read_plan


def main(arguments: list[str]) -> None:
    """Runs until the driver ends it; exits with status 1 and one line if it cannot start."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver handles it
    threading.Thread(target=_end_with_driver, daemon=True).start()
    file, share, port = arguments
    first, step = map(int, share.split("/"))
    try:
        plan = read_plan(Path(file))
        environment = environment_of(plan)
        process = UserProcess(plan, Share(first, step), environment)
        process.get_ready()
    except LabError as error:
        sys.exit(str(error))
    runner = environment.create_worker_runner(MASTER_HOST, int(port))
    process.listen()
    runner.greenlet.join()
    process.leave()


def _end_with_driver() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
