"""A machine that has no port, no file descriptor, or not the time that a unit expects."""

from __future__ import annotations

import socket
import subprocess
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import not_
from pathlib import Path

import pytest
from cryptography import x509

from lab.errors import CallError
from lab.identity.authority import Authority
from lab.identity.names import Identity
from lab.lab import Lab
from lab.roles import UNIX, Port
from lab.runtime.state import LabState
from lab.waiting import eventually
from tests.lab_command import LAB, run_lab
from tests.labs import ask, states

WITHIN = timedelta(seconds=60)
FILES = 256


def test_a_unit_whose_port_another_program_took_says_so_and_starts_once_it_is_free(
    mini_lab: Lab, mini_spec: Path
) -> None:
    for unit in LabState.of(mini_lab.folder).plan.units:
        ports = [each for each in (unit.port, unit.admin, unit.rest) if each and not each.bind.startswith(UNIX)]
        for port in ports:
            mini_lab.units.kill(unit.name)
            with listening(port):
                mini_lab.units.start(unit.name)
                ended = lambda unit=unit.name: states(mini_lab)[unit]  # noqa: E731 (of this turn)
                eventually(f"{unit.name} has ended", ended, within=WITHIN, until="exited".__eq__)
                shown = run_lab(mini_lab, "status")
                [line] = [each for each in shown.stdout.splitlines() if each.startswith(f"{unit.name}: ")]
                assert shown.returncode == 1
                assert "cannot listen on" in line or "cannot bind" in line
                assert port.bind in line
            mini_lab.up(spec=mini_spec)

    assert {ask(mini_lab, topology).version for topology in ("gateway", "mesh")} == {"v1"}


def listening(port: Port) -> socket.socket:
    """A stranger that listens on the port as soon as its unit has let go of it."""
    host, number = port.bind.rsplit(":", 1)

    def listen() -> socket.socket | None:
        stranger = socket.socket()
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            stranger.bind((host, int(number)))
        except OSError:
            stranger.close()
            return None
        stranger.listen()
        return stranger

    found = eventually(f"{port.bind} is free", listen, within=WITHIN)
    assert found is not None
    return found


@pytest.mark.timeout(300)
def test_each_unit_without_a_file_descriptor_left_is_shown_and_recovers(own_lab: Lab, mini_spec: Path) -> None:
    up = f'ulimit -n {FILES}; exec "{LAB}" up --runtime process --spec "{mini_spec}"'
    environment = {"PATH": "/usr/bin:/bin", "LAB_NAME": own_lab.name, "LAB_HOME": str(own_lab.folder.parent.parent)}
    subprocess.run(["bash", "-c", up], check=True, env=environment, capture_output=True, timeout=100)

    def is_shown(line: str) -> bool:
        return line in run_lab(own_lab, "status").stdout.splitlines()

    for unit in LabState.of(own_lab.folder).plan.units:
        line = (
            f"{unit.name}: has {FILES} files and connections open, its limit: new ones wait; "
            "`ulimit -n` before `lab up` raises the limit"
        )
        with ExitStack() as open_connections:
            for _ in range(FILES):
                open_connections.enter_context(connected(unit.port))
            eventually(f"{unit.name} is shown", partial(is_shown, line), within=WITHIN)
            assert set(states(own_lab).values()) == {"running"}

        eventually(f"{unit.name} has recovered", partial(is_shown, line), within=WITHIN, until=not_)
        eventually("both topologies answer again", partial(answers, own_lab), within=WITHIN)


def answers(lab: Lab) -> bool:
    """Whether the lab answers a call through each topology."""
    try:
        return {ask(lab, topology).version for topology in ("gateway", "mesh")} == {"v1"}
    except CallError:
        return False


def connected(port: Port) -> socket.socket:
    """A connection that says nothing."""
    if port.bind.startswith(UNIX):
        client = socket.socket(socket.AF_UNIX)
        client.connect(port.bind.removeprefix(UNIX))
        return client
    host, number = port.bind.rsplit(":", 1)
    return socket.create_connection((host, int(number)))


@pytest.mark.parametrize("jump", [timedelta(hours=-1), timedelta(hours=1)])
def test_certificates_are_valid_after_the_clock_has_jumped_by_an_hour(tmp_path: Path, jump: timedelta) -> None:
    authority = Authority.create(tmp_path / "pki", lifetime_s=86_400)
    authority.issue("gateway-1", Identity("gateway", "gateway-1"), {"127.0.0.1"})

    files = [tmp_path / "pki" / "ca.pem", tmp_path / "pki" / "units" / "gateway-1" / "current" / "cert.pem"]
    for file in files:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        assert certificate.not_valid_before_utc <= datetime.now(UTC) + jump <= certificate.not_valid_after_utc
