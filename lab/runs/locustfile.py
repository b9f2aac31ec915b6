"""Plans a run that Locust drives, and reads its locustfile before anything is created."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from lab import CHECKOUT
from lab.errors import InputError
from lab.load.plan import EXAMPLE, LOOPBACK, LocustPlan, check_free

_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LocustOptions:
    """Options of a run that Locust drives.

    Attributes:
        workers: processes that run the users; 0 for the driver's own.
        locustfile: Python file that defines the users.
        ui_port: port on 127.0.0.1 for Locust's web UI; None for no UI.
    """

    workers: int = 0
    locustfile: Path = EXAMPLE
    ui_port: int | None = None


def locust_plan_of(options: LocustOptions) -> LocustPlan:
    """Returns Locust's part of the driver's plan; installs Locust if it is missing from this checkout's ``.venv``.

    Raises:
        InputError: the locustfile is invalid (the message has file and line), the UI's port is taken, or Locust is
            missing.
    """
    if find_spec("locust") is None:
        _install_locust()
    plan = LocustPlan(locustfile=options.locustfile, workers=options.workers, ui_port=options.ui_port)
    if options.ui_port is not None:
        check_free(LOOPBACK, options.ui_port)
    return replace(plan, closed_loop=_is_closed_loop(options.locustfile))


def _install_locust() -> None:
    if Path(sys.prefix).resolve() != CHECKOUT / ".venv":
        raise InputError("Locust is not installed: pip install 'inference-routing-lab[locust]'")
    if subprocess.run(["make", "--no-print-directory", ".venv/with-locust"], cwd=CHECKOUT, check=False).returncode:
        raise InputError("Locust is not installed, and `make .venv/with-locust` failed: see above")


def _is_closed_loop(locustfile: Path) -> bool:
    """Runs the locustfile in another process, as it may do anything, and returns whether its users wait for answers."""
    command = [sys.executable, "-m", "lab.load.locust.locustfile_loader", str(locustfile)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{locustfile}: was not loaded within {_TIMEOUT_S:g} s; work belongs in tasks") from (error)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"{locustfile}: ended with status {done.returncode}"]
        raise InputError(said[-1])
    return bool(json.loads(done.stdout.splitlines()[-1])["closed_loop"])
