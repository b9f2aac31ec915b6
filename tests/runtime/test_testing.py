"""The fixture as somebody else's suite uses it: three lines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import docker
import pytest

from lab.testing import LabContainers
from tests.labs import docker_objects_of

pytestmark = pytest.mark.usefixtures("engine")

CONFTEST = 'pytest_plugins = ["lab.testing"]\n'
SUITE = """
def test_a_phone_is_ranked_by_v1(routing_lab):
    assert routing_lab.call("ContinueWatchingRanking", topology="mesh", caller="homepage").version == "v1"
"""


@pytest.mark.timeout(180)
def test_three_lines_bring_a_lab_up_for_another_suite_and_take_it_down(
    tmp_path: Path, engine: docker.DockerClient
) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_ranking.py").write_text(SUITE)

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert "1 passed" in run.stdout
    files = [
        each.labels.get("com.docker.compose.project.config_files", "")
        for each in engine.containers.list(all=True, ignore_removed=True)
    ]
    assert [file for file in files if file.startswith(str(tmp_path))] == []


def test_what_testcontainers_offers_for_compose_projects_works_on_a_lab(mini_spec: Path) -> None:
    with LabContainers(spec=mini_spec) as containers:
        assert containers.get_container("homepage-sidecar").State == "running"
        output, _, status = containers.exec_in_container(["healthcheck", "http", "9003", "/ready"], "homepage-sidecar")
        assert (status, output) == (0, "")
        assert "ml-cluster-1-a" in containers.get_logs("ml-cluster-1-a")[0]
        assert containers.lab.call("ContinueWatchingRanking", topology="gateway", caller="homepage").version == "v1"

    assert docker_objects_of(containers.lab) == []
    assert not containers.lab.folder.exists()
