"""How Locust is asked to drive a run, and what its locustfile says before anything is made."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lab.errors import InputError
from lab.load.locust_plan import EXAMPLE, LOOPBACK, LocustPlan, check_free

if TYPE_CHECKING:
    from pathlib import Path

_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LocustOptions:
    """How Locust is to drive a run.

    Attributes:
        workers: processes that users live in; 0 for the driver's own.
        locustfile: says what users do.
        ui_port: port on 127.0.0.1 for Locust's web UI; None for no UI.
    """

    workers: int = 0
    locustfile: Path = EXAMPLE
    ui_port: int | None = None


def locust_plan_of(options: LocustOptions) -> LocustPlan:
    """What the driver is told.

    Raises:
        InputError: the locustfile will not do, which is said with file and line; or the UI's port is taken.
    """
    plan = LocustPlan(locustfile=options.locustfile, workers=options.workers, ui_port=options.ui_port)
    if options.ui_port is not None:
        check_free(LOOPBACK, options.ui_port)
    return replace(plan, closed_loop=_is_closed_loop(options.locustfile))


def _is_closed_loop(locustfile: Path) -> bool:
    """Lets another process run the locustfile, which is a program and may do anything."""
    command = [sys.executable, "-m", "lab.load.locust.locustfile_loader", str(locustfile)]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{locustfile}: is not read within {_TIMEOUT_S:g} s; do work in tasks, not around them") from (
            error
        )
    if told.returncode:
        said = told.stderr.strip().splitlines() or [f"{locustfile}: ended with status {told.returncode}"]
        raise InputError(said[-1])
    return bool(json.loads(told.stdout.splitlines()[-1])["closed_loop"])
