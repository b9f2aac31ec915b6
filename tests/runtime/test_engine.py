"""What an engine complains of, in one line. The texts are what Docker 26 and Compose 2.26 print."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from datetime import timedelta
from ipaddress import IPv4Network
from pathlib import Path

import psutil
import pytest
from docker.errors import APIError
from docker.models.containers import Container

from lab.errors import InputError, UnitError
from lab.lab import Lab
from lab.runtime import choose
from lab.runtime.compose import engine, subnets
from lab.runtime.compose.engine import obstacle
from lab.waiting import eventually
from tests.missing import missing

DAEMON = "Error response from daemon: "
EXTERNAL = "driver failed programming external connectivity on endpoint lab-x-gateway-1-1 (0d1)"
IN_USE = "address already in use"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            f"{DAEMON}{EXTERNAL}: Error starting userland proxy: listen tcp4 127.0.0.1:25513: bind: {IN_USE}",
            "port 127.0.0.1:25513 is taken: end what listens there",
        ),
        (
            f"{DAEMON}{EXTERNAL}: Bind for 127.0.0.1:25513 failed: port is already allocated",
            "port 127.0.0.1:25513 is taken: end what listens there",
        ),
        (
            "failed to register layer: write /usr/bin/python3.13: no space left on device",
            "the disk that Docker keeps its data on is full: make room",
        ),
        (
            f"{DAEMON}invalid pool request: Pool overlaps with other one on this address space",
            "another Docker network has the lab's addresses: try again",
        ),
        (
            "no-such:1: failed to resolve source metadata for docker.io/library/no-such:1: failed to do request",
            "image no-such:1 is neither here nor can it be pulled: `make engine`",
        ),
        (
            f"{DAEMON}No such image: inference-routing-lab:1",
            "image inference-routing-lab:1 is not here: `lab up` builds",
        ),
        ("first\nError: something new\nlast", "Error: something new"),
        ("", "it failed without a message"),
    ],
)
def test_a_complaint_becomes_one_line_with_a_remedy(text: str, reason: str) -> None:
    assert engine.explain(text).startswith(reason)
    assert "\n" not in engine.explain(text)


@pytest.fixture
def no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")


@pytest.mark.usefixtures("no_engine")
def test_where_no_engine_answers_auto_takes_processes_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAB_RUNTIME")

    runtime, why = choose("auto")

    assert runtime == "process"
    assert why.startswith("no Docker engine answers (")
    assert "`make engine`" in why
    assert "\n" not in why


@pytest.mark.usefixtures("engine")
def test_a_process_has_one_client_that_notices_when_its_engine_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = tmp_path / "docker.sock"
    door.symlink_to((engine.address() or "").removeprefix("unix://"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{door}")
    assert engine.connect() is engine.connect()

    door.unlink()

    with pytest.raises(UnitError, match="no Docker engine answers"):
        engine.connect()


@pytest.mark.usefixtures("engine")
def test_where_an_engine_answers_auto_takes_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAB_RUNTIME")

    assert choose("auto") == ("compose", "a Docker engine answers")


def test_the_environment_decides_auto_and_nothing_else() -> None:
    assert choose("auto") == ("process", "as LAB_RUNTIME says")
    assert choose("compose") == ("compose", "as asked for")
    with pytest.raises(InputError, match=r"'podman' is not known; write one of auto, compose, process, kubernetes"):
        choose("podman")


@pytest.mark.usefixtures("no_engine")
def test_a_lab_of_containers_without_an_engine_is_one_line_and_nothing_is_left(own_lab: Lab, mini_spec: Path) -> None:

    with pytest.raises(UnitError, match=r"^no Docker engine answers \(.*\): start Docker, or run `make engine`"):
        own_lab.up(spec=mini_spec, runtime="compose")

    assert not own_lab.folder.exists()
    assert obstacle()


def test_networks_of_two_labs_are_disjoint_avoid_those_in_use_and_lapse_with_the_folder(tmp_path: Path) -> None:
    owners = [tmp_path / name for name in ("a", "b")]
    for owner in owners:
        owner.mkdir()
    in_use = [IPv4Network("198.18.0.0/20")]

    first, second = (subnets.reserve(owner, in_use) for owner in owners)

    assert not first.overlaps(second)
    assert not first.overlaps(in_use[0])
    assert subnets.reserve(owners[0], in_use) == first
    subnets.release(owners[0])
    owners[1].rmdir()
    assert not subnets.reserve(tmp_path, in_use).overlaps(in_use[0])
    subnets.release(tmp_path)


def test_a_lab_whose_temporary_files_are_elsewhere_gets_no_network_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners = [tmp_path / name for name in ("a", "b")]
    for owner in owners:
        owner.mkdir()

    first = subnets.reserve(owners[0], [])
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)

    assert not subnets.reserve(owners[1], []).overlaps(first)
    for owner in owners:
        subnets.release(owner)


def test_a_killed_process_leaves_no_compose_command(tmp_path: Path) -> None:
    if shutil.which("setpriv") is None:
        missing("nothing here ties a command to who began it")
    slow = tmp_path / "docker"
    slow.write_text("#!/bin/sh\necho $$\nexec sleep 60\n")
    slow.chmod(0o755)
    program = "from lab.runtime.compose.engine import compose; compose(['up'], {}, lambda pid: print(pid, flush=True))"
    begun = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with begun:
        assert begun.stdout is not None
        command = psutil.Process(int(begun.stdout.readline()))
        begun.kill()
        begun.wait()

    try:
        eventually("it has ended", lambda: not command.is_running(), within=timedelta(seconds=10))
    finally:
        if command.is_running():
            command.kill()


@pytest.mark.parametrize(
    ("reasons", "started"),
    [
        ([], 1),
        (["runc create failed: waiting for init preliminary setup: read init-p: connection reset by peer"], 2),
        (["waiting for init preliminary setup", "waiting for init preliminary setup"], 0),
        (['exec: "nothing": executable file not found'], 0),
    ],
)
def test_a_container_that_was_not_set_up_is_started_once_more(reasons: list[str], started: int) -> None:
    """Docker 26 said so once of some thousand starts; no way is known to make it do so."""
    tries = []

    class Refused(Container):
        def start(self, **_: object) -> None:
            tries.append(1)
            if len(tries) <= len(reasons):
                raise APIError("500 Server Error", explanation=reasons[len(tries) - 1])

    with nullcontext() if started else pytest.raises(APIError):
        engine.start(Refused())
    assert len(tries) == (started or len(reasons))
