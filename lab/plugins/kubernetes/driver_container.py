"""Runs a load driver in a container of a caller's pod, so that no forwarded port is part of a measured path."""

from __future__ import annotations

import io
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from lab.load.plan import UI_HOST_VARIABLE
from lab.plugins.kubernetes.copying import bring_back, put
from lab.plugins.kubernetes.naming import DRIVER
from lab.plugins.kubernetes.pods import RUNS
from lab.registry import PLUGINS
from lab.runtime.driver_files import files_for, plugins_in

if TYPE_CHECKING:
    from lab.plugins.kubernetes.api import Api
    from lab.runtime.cancellation import CancelToken

_MARK = "LAB_RUN"
_SIGNAL = f"""
import os, pathlib, sys
mark = b"\\0{_MARK}=" + sys.argv[1].encode() + b"\\0"
for process in pathlib.Path("/proc").iterdir():
    try:
        if process.name.isdigit() and mark in b"\\0" + (process / "environ").read_bytes():
            os.kill(int(process.name), int(sys.argv[2]))
    except OSError:
        pass
"""


def run_driver(
    api: Api,
    pod: str,
    run: Path,
    on_line: Callable[[str], None],
    *,
    errors: TextIO,
    cancel_token: CancelToken,
) -> int:
    """Runs the driver to its end, copies what it recorded into the run's folder, and returns its exit status.

    Args:
        api: of the lab.
        pod: of the caller, by the cluster's name.
        run: folder with the plan; its files are copied into the container, and the container's files back in the end.
        on_line: called with each line of progress.
        errors: file that gets the driver's standard error.
        cancel_token: cancels the driver from another thread.
    """
    put(api, pod, run.name, files_for(run))
    environment = {
        _MARK: run.name,
        UI_HOST_VARIABLE: "0.0.0.0",
        PLUGINS: plugins_in(f"{RUNS}/{run.name}"),
    }
    words = [f"{name}={value}" for name, value in environment.items()]
    command = ["env", *words, "python", "-m", "lab.load.driver", f"{RUNS}/{run.name}/plan.json"]
    out, err = _Lines(on_line), io.BytesIO()
    with (
        ThreadPoolExecutor(1) as thread,
        cancel_token.notifying(lambda: send_signal(api, pod, run, signal.SIGINT)),
    ):
        driving = thread.submit(api.execute, pod, DRIVER, command, out=out, errors=err)
        while not driving.done():
            try:
                wait([driving])
            except KeyboardInterrupt:
                send_signal(api, pod, run, signal.SIGINT)
    errors.write(err.getvalue().decode(errors="replace"))
    bring_back(api, pod, run.name, run.parent)
    api.execute(pod, DRIVER, ["rm", "-rf", f"{RUNS}/{run.name}"])
    return driving.result()[0]


def send_signal(api: Api, pod: str, run: Path, number: int) -> None:
    """Sends a signal to the driver of a run."""
    api.execute(pod, DRIVER, ["python", "-IS", "-c", _SIGNAL, run.name, str(number)])


class _Lines(io.RawIOBase):
    """Calls a function with each line that is written."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line, self._rest = on_line, b""

    def writable(self) -> bool:
        return True

    def write(self, chunk: bytes) -> int:  # type: ignore[override]  # only bytes are written
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._on_line(line.decode())
        return len(chunk)
