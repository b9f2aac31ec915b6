"""Disks that are full, or do not answer. They are mounted for the test, which only root can."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from lab.errors import LabError
from lab.lab import Lab
from lab.transport.rpc_logs import RequestLog
from lab.waiting import eventually
from tests.disks import fill, mounted
from tests.lab_command import json_of, run_lab, start_lab
from tests.labs import ask, processes_of, states, unique_lab, with_timeout, write_spec
from tests.missing import missing

WITHIN = timedelta(seconds=60)
FULL = "No space left on device; make space, then run the command again"


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of 48 MB that can be filled and frozen."""
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(mounted(tmp_path_factory.mktemp("disk"), 48 * 2**20))
        except subprocess.CalledProcessError as error:
            missing(f"needs root and loop devices: {error.stderr.strip()}")
        yield folder


@pytest.fixture(autouse=True)
def _restored(disk: Path) -> Iterator[None]:
    """Also a test that fails leaves the disk as it was."""
    yield
    subprocess.run(["fsfreeze", "-u", disk], check=False, capture_output=True)
    (disk / "filler").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beside its route table, on another disk."""
    return write_spec(tmp_path_factory.mktemp("spec"))


@pytest.fixture(scope="module")
def lab(disk: Path, spec: Path) -> Iterator[Lab]:
    """A lab whose folder is on that disk; each test but the last leaves it whole."""
    lab = unique_lab(disk)
    try:
        lab.up(spec=spec, runtime="process")
        yield lab
    finally:
        subprocess.run(["fsfreeze", "-u", disk], check=False, capture_output=True)
        lab.down()


def test_a_request_log_goes_on_after_a_full_disk_without_torn_lines(
    disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = disk / "access.log"
    log = RequestLog(path, ("number", "text"))
    filler = fill(disk)

    for number in range(1000):
        log.write(number, "x" * 10_000)
        log.flush()

    [full] = [each.getMessage() for each in caplog.records]
    assert "No space left on device" in full
    filler.unlink()

    def is_written() -> bool:
        log.flush()
        return log.up_to_date

    with caplog.at_level(logging.WARNING):
        eventually("all is written", is_written, within=WITHIN)
    numbers = [json.loads(line)["number"] for line in path.read_text().splitlines()]
    assert numbers == list(range(len(numbers)))
    assert caplog.records[-1].getMessage() == f"{path}: written again; {1000 - len(numbers)} requests were not logged"
    log.write(1000, "")
    log.close()
    assert json.loads(path.read_text().splitlines()[-1])["number"] == 1000


def test_a_lab_on_a_full_disk_answers_and_says_so_and_recovers(lab: Lab, disk: Path, spec: Path) -> None:
    routes = spec.with_name("routes.yaml")
    routes.write_text(with_timeout(routes.read_text(), "3s"))
    filler = fill(disk)

    assert [ask(lab, topology).version for topology in ("gateway", "mesh")] == ["v1", "v1"]
    assert f"the disk of lab {lab.name} is full: logs and revisions cannot be written" in run_lab(lab, "status").stdout
    refused = run_lab(lab, "routes", "publish", routes)
    assert refused.returncode == 1
    assert len(refused.stderr.strip().splitlines()[-1:]) == 1
    assert "Traceback" not in refused.stderr

    filler.unlink()
    assert run_lab(lab, "routes", "publish", routes).returncode == 0
    assert not lab.status().disk_is_full
    assert {unit.state for unit in lab.status().units} == {"running"}
    request = ask(lab, "gateway").request_id
    assert [line.unit for line in lab.logs(request)] == ["gateway-1"]


@pytest.mark.timeout(300)
def test_each_unit_that_ends_on_a_full_disk_is_shown_and_starts_once_there_is_space(
    lab: Lab, disk: Path, spec: Path
) -> None:
    up = ("up", "--spec", spec, "--runtime", "process")
    full = f"the disk of lab {lab.name} is full: logs and revisions cannot be written"
    filler = fill(disk)

    for unit, process in processes(lab).items():
        os.kill(process, signal.SIGKILL)
        ended = eventually(f"{unit} has ended", partial(states, lab), within=WITHIN, until=is_exited(unit))
        assert ended[unit] == "exited"
        shown = run_lab(lab, "status")
        assert shown.returncode == 1
        assert full in shown.stdout.splitlines()
        assert [line for line in shown.stdout.splitlines() if line.startswith(f"{unit}: ")]
    refused = run_lab(lab, *up)
    assert refused.returncode == 1
    named, _, why = refused.stderr.splitlines()[-1].removeprefix("lab: ").partition(": ")
    assert why == FULL
    assert Path(named).is_relative_to(disk)
    assert Path(named) != disk

    filler.unlink()
    assert run_lab(lab, *up).returncode == 0
    assert set(states(lab).values()) == {"running"}
    assert full not in run_lab(lab, "status").stdout
    assert {ask(lab, topology).version for topology in ("gateway", "mesh")} == {"v1"}


def test_load_on_a_full_disk_is_refused_and_runs_once_there_is_space(lab: Lab, disk: Path) -> None:
    load = ("load", "--topology", "gateway", "--rate", "20", "--duration", "1", "--json")
    filler = fill(disk)

    refused = run_lab(lab, *load)
    assert (refused.returncode, refused.stdout) == (3, "")
    assert refused.stderr.splitlines()[-1].endswith(f": {FULL}")

    filler.unlink()
    assert json_of(run_lab(lab, *load), statuses=(0, 1, 2))["ok"] > 0


def processes(lab: Lab) -> dict[str, int]:
    """Each unit's process."""
    return {each.name: int(each.pid) for each in lab.status().units}


def is_exited(unit: str) -> Callable[[Mapping[str, str]], bool]:
    """Whether a unit has ended, by the states of all."""
    return lambda seen: seen[unit] == "exited"


def test_a_lab_on_a_disk_that_does_not_answer_serves_and_says_so_and_recovers(lab: Lab, disk: Path, spec: Path) -> None:
    routes = spec.with_name("routes.yaml")
    routes.write_text(with_timeout(routes.read_text(), "4s"))

    def state() -> str:
        return next(unit.state for unit in lab.status().units if unit.role == "control-plane")

    subprocess.run(["fsfreeze", "-f", disk], check=True)
    # A control plane that has nothing to write does not notice.
    publish = start_lab(lab, "routes", "publish", str(routes))
    for _ in range(2):
        assert [ask(lab, topology).version for topology in ("gateway", "mesh")] == ["v1", "v1"]
        eventually("the control plane waits for its disk", state, within=WITHIN, until="stalled".__eq__)
    assert "stalled" in run_lab(lab, "status").stdout

    subprocess.run(["fsfreeze", "-u", disk], check=True)
    eventually("it goes on", state, within=WITHIN, until="running".__eq__)
    assert {unit.state for unit in lab.status().units} == {"running"}
    _, said = publish.communicate(timeout=WITHIN.total_seconds())
    assert publish.returncode == 0, said


def test_down_does_not_wait_for_a_disk_that_does_not_answer(lab: Lab, disk: Path) -> None:
    subprocess.run(["fsfreeze", "-f", disk], check=True)
    # What waits for the disk can be ended by nothing else, this process neither.
    guard = subprocess.Popen(["sh", "-c", f"sleep 60; fsfreeze -u {disk}"])

    with pytest.raises(LabError, match=r"its disk does not answer|the kernel has not ended them yet"):
        lab.down()

    assert guard.poll() is None
    guard.kill()
    guard.wait()
    subprocess.run(["fsfreeze", "-u", disk], check=True)
    eventually(
        "nothing is left", lambda: processes_of(lab) or lab.folder.exists(), within=WITHIN, until=lambda it: not it
    )
    assert not list(lab.folder.parent.glob("*"))
