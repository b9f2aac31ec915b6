"""What a container of a lab may do, what of it can be reached, and how it is looked at: in a lab that is up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import docker
import pytest
from docker.models.containers import Container

from lab.lab import Lab
from lab.runs import LoadOptions
from lab.runtime.compose.project import Project
from lab.runtime.identities import Identities
from lab.runtime.state import LabState
from tests.labs import lab_up, write_spec

# Asks an address for what an admin page would say; prints how that ended.
_ASK = """
import sys, urllib.request
request = urllib.request.Request(sys.argv[1], method=sys.argv[2])
try:
    print(urllib.request.urlopen(request, timeout=3).status)
except Exception as error:
    print(getattr(error, "code", None) or type(getattr(error, "reason", error)).__name__)
"""
ADMIN_SOCKET = "/tmp/admin"  # noqa: S108 (within the container)
_CLOSED = {"ConnectionRefusedError", "ConnectionResetError", "RemoteDisconnected"}


@pytest.fixture(scope="module")
def lab(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    del engine
    home = tmp_path_factory.mktemp("contained")
    with lab_up(home, spec=write_spec(home), security="mtls", runtime="compose") as lab:
        yield lab


@pytest.fixture(scope="module")
def containers(lab: Lab, engine: docker.DockerClient) -> dict[str, Container]:
    """By unit, those that only hold a network included."""
    found = {
        each.labels["com.docker.compose.service"]: each
        for each in engine.containers.list(ignore_removed=True)
        if lab.name in (each.name or "")
    }
    assert set(found) >= {
        "control-plane",
        "ml-cluster-1-a",
        "gateway-1",
        "homepage",
        "homepage-sidecar",
        "homepage-pod",
    }
    return found


def run(container: Container, *command: str) -> tuple[int, str]:
    status, output = container.exec_run(list(command))
    assert status is not None
    assert isinstance(output, bytes)
    return status, output.decode()


def test_none_has_a_privilege_a_socket_of_the_engine_or_a_root_file_system_to_write_to(
    containers: dict[str, Container],
) -> None:
    for unit, container in containers.items():
        host = container.attrs["HostConfig"]
        assert (host["Privileged"], host["ReadonlyRootfs"], host["CapAdd"]) == (False, True, None), unit
        assert host["CapDrop"] == ["ALL"], unit
        assert "no-new-privileges:true" in host["SecurityOpt"], unit
        assert not [mount for mount in container.attrs["Mounts"] if "docker.sock" in mount["Source"]], unit
        assert run(container, "touch", "/here")[0] != 0, unit
        assert run(container, "touch", "/lab/here")[0] != 0, unit


def test_none_runs_as_root_or_could_become_it(containers: dict[str, Container]) -> None:
    for unit, container in containers.items():
        said = dict(
            line.split(":", 1) for line in run(container, "cat", "/proc/1/status")[1].splitlines() if ":" in line
        )
        assert set(said["Uid"].split()) == {"10001"}, unit
        assert {int(said[each], 16) for each in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}, unit
        assert said["NoNewPrivs"].strip() == "1", unit


def test_only_looks_reach_an_envoys_admin_page_and_only_from_its_pod_and_this_machine(
    lab: Lab, containers: dict[str, Container]
) -> None:
    networks = containers["homepage-pod"].attrs["NetworkSettings"]["Networks"]
    [pod] = [each["IPAddress"] for each in networks.values()]

    def asked(unit: str, url: str, method: str = "GET") -> str:
        return run(containers[unit], "python", "-c", _ASK, url, method)[1].strip()

    assert asked("gateway-1", f"http://{pod}:9003/config_dump") in _CLOSED
    assert asked("homepage", "http://127.0.0.1:9003/ready") == "200"
    assert asked("homepage", "http://127.0.0.1:9003/quitquitquit", "POST") == "404"
    assert run(containers["homepage-sidecar"], "stat", "-c", "%a %F", ADMIN_SOCKET) == (0, "600 socket\n")
    assert run(containers["homepage"], "stat", ADMIN_SOCKET)[0] != 0

    admin = LabState.of(lab.folder).plan.unit("homepage-sidecar").admin
    assert admin is not None

    def from_here(path: str, method: str) -> str:
        command = [sys.executable, "-c", _ASK, f"http://{admin.outside}{path}", method]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert from_here("/ready", "GET") == "200"
    assert from_here("/stats/prometheus", "GET") == "200"
    assert from_here("/quitquitquit", "POST") == "404"
    assert from_here("/stats", "POST") == "404"
    assert from_here("/quitquitquit", "GET") == "404"


def test_no_key_is_in_a_log_or_in_a_runs_folder(lab: Lab, containers: dict[str, Container]) -> None:
    folder = lab.load(LoadOptions(topology="mesh", caller="homepage", rate=20, duration_s=1)).folder
    pki = Identities(lab.folder).folder
    # Of each key the part that is its own; what stands before it is the same in all.
    keys = [
        path.read_text().splitlines()[2].encode() for path in [pki / "ca.key", *pki.glob("units/*/current/key.pem")]
    ]
    assert len(keys) >= 7

    kept = [path for path in [*folder.rglob("*"), *lab.folder.rglob("*")] if path.is_file() and pki not in path.parents]
    assert [path for path in kept if path.name.startswith("config_dump") or "config_dump" in path.name]
    for path in kept:
        content = path.read_bytes()
        assert b"PRIVATE KEY" not in content, path
        assert not any(key in content for key in keys), path
    for unit, container in containers.items():
        said = container.logs()
        assert b"PRIVATE KEY" not in said, unit
        assert not any(key in said for key in keys), unit
        environment = " ".join(container.attrs["Config"]["Env"])
        assert "KEY" not in environment, unit


def test_the_logs_of_all_units_cost_one_list_of_containers(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lists: list[str] = []
    listed = Project.listed

    def counted(self: Project) -> list[dict[str, Any]]:
        lists.append(self.name)
        return listed(self)

    monkeypatch.setattr(Project, "listed", counted)

    tail = lab.units.last_log_lines([unit.name for unit in LabState.of(lab.folder).plan.units])

    assert any("serves on port" in line for line in tail["homepage-resolver"] + tail["gateway-1"]), tail
    assert len(lists) == 1
