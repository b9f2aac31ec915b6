"""Runs a command's coroutine, which Ctrl-C cancels."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from lab.cli.signals import handled_by

_T = TypeVar("_T")


def run_interruptibly(main: Coroutine[Any, Any, _T]) -> _T:
    """Runs a command's coroutine, which an interrupt cancels.

    An interrupt that is raised wherever Python is at the moment may be lost in a callback of gRPC's, and with it the
    result that a task waits for.

    Raises:
        KeyboardInterrupt: it was cancelled so.
    """
    with handled_by({signal.SIGINT: signal.default_int_handler}):  # in whose place asyncio puts its own
        return asyncio.run(main)
