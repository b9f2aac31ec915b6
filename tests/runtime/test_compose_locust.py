"""Locust in a caller's pod: its workers stand there, its UI is reached on this machine's loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import urllib.request
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from lab.runs import LoadOptions, LocustOptions, judge
from lab.waiting import eventually
from tests.lab_command import LAB

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lab.lab import Lab

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.timeout(300)]


def asked(url: str, form: bytes | None = None) -> int:
    with urllib.request.urlopen(url, form, timeout=10) as answer:  # noqa: S310 (our own)
        return int(answer.status)


def test_locust_drives_from_within_the_pod_and_is_steered_from_this_machine(
    new_lab: Callable[[], Lab], mini_spec: Path, left_of: Callable[[Lab], list[str]]
) -> None:
    lab: Lab = new_lab()
    lab.up(spec=mini_spec, runtime="compose")
    units = left_of(lab)

    result = lab.load(
        LoadOptions(
            topology="mesh", caller="homepage", rate=50, duration_s=2, users=20, locust=LocustOptions(workers=2)
        )
    )

    assert result.summary.ok == result.summary.planned > 0
    assert (result.misrouted, result.summary.missing) == (0, 0)
    assert left_of(lab) == units

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        str(LAB),
        "load",
        "--engine",
        "locust",
        "--workers",
        "1",
        "--ui",
        "--ui-port",
        str(port),
        "--users",
        "10",
    ]
    run = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "LAB_NAME": lab.name, "LAB_HOME": str(lab.folder.parent.parent)},
    )
    url = f"http://127.0.0.1:{port}"
    assert run.stderr is not None
    assert url in next(line for line in run.stderr if "Locust's UI" in line)
    eventually("the UI answers", lambda: asked(url), within=timedelta(seconds=10), until=lambda status: status == 200)
    assert asked(f"{url}/swarm", b"user_count=10&spawn_rate=10") == 200
    next(line for line in run.stderr if "done" in line and " 0 done" not in line)
    assert asked(f"{url}/quit", b"") == 200
    output, _ = run.communicate(timeout=60)

    assert run.returncode in (0, 2), output
    steered = judge((lab.runs / "latest").resolve())
    assert steered.summary.planned == steered.summary.ok > 0
    assert steered.summary.offered is None
    assert left_of(lab) == units
