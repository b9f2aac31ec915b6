"""Tools that developers start by make, for minutes or hours: how they end on Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Callable

from lab.cli.signals import interrupted_by_signals

INTERRUPTED = 130
"""Exit status that shells give to Ctrl-C."""


def run_tool(main: Callable[[], int]) -> int:
    """Runs a tool and returns its exit status; one line and 130 if Ctrl-C, SIGTERM or SIGHUP ended it.

    The tool has cleaned up by then: what it started ends with its own ``with`` and ``finally`` blocks.
    """
    try:
        with interrupted_by_signals():
            return main()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
