"""Locust in a caller's pod: its workers stand there, its UI is reached on this machine's loopback."""

from __future__ import annotations

import urllib.request
from datetime import timedelta

import pytest

from lab.lab import Lab
from lab.plugins.locust.plan import plan_of
from lab.runs import LoadOptions, judge
from lab.waiting import eventually
from tests.lab_command import await_line, start_lab
from tests.labs import docker_objects_of
from tests.ports import free_port

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.timeout(300)]


def asked(url: str, form: bytes | None = None) -> int:
    with urllib.request.urlopen(url, form, timeout=10) as answer:  # noqa: S310 (our own)
        return int(answer.status)


def test_locust_drives_from_within_the_pod_and_is_steered_from_this_machine(compose_lab: Lab) -> None:
    units = docker_objects_of(compose_lab)

    result = compose_lab.load(
        LoadOptions(topology="mesh", caller="homepage", rate=50, duration_s=2, users=20, engine=plan_of(workers=2))
    )

    assert result.summary.ok == result.summary.planned > 0
    assert (result.misrouted, result.summary.missing) == (0, 0)
    assert docker_objects_of(compose_lab) == units

    port = free_port()
    run = start_lab(
        compose_lab,
        *("load", "--engine", "locust", "--workers", "1", "--ui", "--ui-port", str(port), "--users", "10"),
    )
    url = f"http://127.0.0.1:{port}"
    await_line(run, "UI of locust", url)
    eventually("the UI answers", lambda: asked(url), within=timedelta(seconds=10), until=lambda status: status == 200)
    assert asked(f"{url}/swarm", b"user_count=10&spawn_rate=10") == 200
    assert run.stderr is not None
    next(line for line in run.stderr if "done" in line and " 0 done" not in line)
    assert asked(f"{url}/quit", b"") == 200
    output, _ = run.communicate(timeout=60)

    assert run.returncode in (0, 2), output
    steered = judge((compose_lab.runs / "latest").resolve())
    assert steered.summary.planned == steered.summary.ok > 0
    assert steered.summary.offered is None
    assert docker_objects_of(compose_lab) == units
