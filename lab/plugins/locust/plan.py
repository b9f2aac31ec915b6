"""Locust's part of a load plan; reads the locustfile before anything is created."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lab import CHECKOUT, PYTHON
from lab.errors import InputError
from lab.load.plan import CHOSEN_FIELDS, EnginePlan
from lab.plugins.locust.decided_fields import EVERYTHING, decided_by
from lab.reading import MAX_SMALL_BYTES, read_text

NAME = "locust"
LOOPBACK = "127.0.0.1"
UI_PORT = 8089
EXAMPLE = Path(__file__).with_name("locustfile.py")
"""The locustfile used if none is named."""
LOCUSTFILE = "locustfile.py"
"""Its name in the run's folder, and in the plan's files."""

_TIMEOUT_S = 60.0


def plan_of(
    *, workers: int = 0, locustfile: Path = EXAMPLE, ui: bool = False, ui_port: int | None = None
) -> EnginePlan:
    """Returns Locust's part of a plan; installs Locust if it is missing from this checkout's ``.venv``.

    Args:
        workers: processes that run the users; 0 for the driver's own.
        locustfile: Python file that defines the users.
        ui: whether to serve Locust's web UI.
        ui_port: its port on 127.0.0.1; :data:`UI_PORT` by default.

    Raises:
        InputError: the locustfile is invalid (the message has file and line), the UI's port is taken, or Locust is
            missing.
    """
    if ui_port is not None and not ui:
        raise InputError("--ui-port: there is no UI without --ui; add it, or leave the port out")
    if find_spec("locust") is None:
        _install_locust()
    port = UI_PORT if ui and ui_port is None else ui_port
    plan = EnginePlan(name=NAME, workers=workers, ui_port=port, files={LOCUSTFILE: locustfile})
    if port is not None:
        check_free(LOOPBACK, port)
    return replace(plan, closed_loop=_is_closed_loop(locustfile), decides=_decided_in(locustfile))


def read_before_names(document: Mapping[str, Any], folder: Path) -> EnginePlan | None:
    """Locust's part of a plan from before plans named their engine: ``steering``; None if it has none."""
    steering = document.get("steering")
    if steering is None:
        return None
    locustfile = folder / steering["locustfile"]
    return EnginePlan(
        name=NAME,
        workers=steering["workers"],
        ui_port=steering["ui_port"],
        closed_loop=steering["closed_loop"],
        decides=_decided_in(locustfile) if locustfile.exists() else tuple(EVERYTHING),
        files={LOCUSTFILE: locustfile},
    )


def check_free(host: str, port: int) -> None:
    """Raises if the UI cannot listen there.

    Raises:
        InputError: the port is taken, or not permitted.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(
                f"--ui-port: {port} is not available ({error.strerror}); end the run that uses it, or choose another"
            ) from error


def _decided_in(locustfile: Path) -> tuple[str, ...]:
    decided = decided_by(read_text(locustfile, MAX_SMALL_BYTES))
    known = decided <= {*EVERYTHING, "payload_bytes", "user_id", *CHOSEN_FIELDS}
    return tuple(sorted(decided if known else EVERYTHING))


def _install_locust() -> None:
    if Path(sys.prefix).resolve() != CHECKOUT / ".venv":
        raise InputError("Locust is not installed: pip install 'inference-routing-lab[locust]'")
    if subprocess.run(["make", "--no-print-directory", ".venv/with-locust"], cwd=CHECKOUT, check=False).returncode:
        raise InputError("Locust is not installed, and `make .venv/with-locust` failed: see above")


def _is_closed_loop(locustfile: Path) -> bool:
    """Runs the locustfile in another process, as it may do anything, and returns whether its users wait for answers."""
    command = [*PYTHON, "-m", "lab.plugins.locust.locustfile_loader", str(locustfile)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{locustfile}: was not loaded within {_TIMEOUT_S:g} s; work belongs in tasks") from (error)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"{locustfile}: ended with status {done.returncode}"]
        raise InputError(said[-1])
    return bool(json.loads(done.stdout.splitlines()[-1])["closed_loop"])
