"""Main function of a service: event loop, logging, and a clean stop on SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from typing import TYPE_CHECKING

import uvloop

from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def run_service(main: Callable[[asyncio.Event], Coroutine[object, object, None]]) -> None:
    """Runs ``main(stop)`` on uvloop; ``stop`` is set by SIGTERM and SIGINT.

    Exits the process with status 1 and one line on a :class:`LabError`.
    """
    logging.basicConfig(format=LOG_FORMAT, level=logging.INFO, stream=sys.stderr)

    async def until_stopped() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        # Imported modules stay: the collector need not traverse them.
        gc.collect()
        gc.freeze()
        await main(stop)

    try:
        uvloop.run(until_stopped())
    except LabError as error:
        sys.exit(f"{error}")
