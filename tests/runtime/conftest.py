"""A Docker engine, without which these tests are skipped, but in CI fail: there it must be. And a lab to break."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

import pytest

from lab.lab import Lab
from lab.runtime.compose import engine as docker_engine
from lab.runtime.compose.engine import obstacle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import docker

SPEC = """
topologies = ["gateway", "mesh"]
routes = "routes.yaml"
[callers.homepage]
[gateway]
replicas = 1
"""
ROUTES = """
use_cases:
  ContinueWatchingRanking:
    callers: [homepage]
    api: ranking.v1
    timeout: 2s
    default: cw-ranker@v1
    rules:
      - {name: noisy, when: {tenant: [noisy]}, use: cw-ranker@v2}
      - {name: tv, when: {device: [tv]}, use: cw-ranker@v2}
models:
  cw-ranker:
    versions:
      v1: {cluster: ml-cluster-1}
      v2: {cluster: ml-cluster-2}
clusters:
  ml-cluster-1: {replicas: 2}
  ml-cluster-2: {replicas: 1}
"""


@pytest.fixture(scope="session")
def engine() -> docker.DockerClient:
    """A client of the engine."""
    if reason := obstacle():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    return docker_engine.connect()


@pytest.fixture
def left_of(engine: docker.DockerClient) -> Callable[[Lab], list[str]]:
    """Containers, networks and volumes that an engine has of a lab."""

    def find(lab: Lab) -> list[str]:
        mine = f"lab-{lab.name}-"
        found = [each.name for each in engine.containers.list(all=True, ignore_removed=True)]
        found += [each.name for each in engine.networks.list()]
        found += [each.name for each in engine.volumes.list()]
        return [name for name in found if name and mine in name]

    return find


@pytest.fixture(scope="session", params=["process", "compose"])
def lab_to_break(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A small lab on each runtime; whoever breaks something of it mends it again."""
    if request.param == "compose":
        request.getfixturevalue("engine")
    home: Path = tmp_path_factory.mktemp("to-break")
    (home / "routes.yaml").write_text(ROUTES)
    (home / "spec.toml").write_text(SPEC)
    lab = Lab(f"broken-{secrets.token_hex(3)}", home=home)
    try:
        lab.up(spec=home / "spec.toml", runtime=request.param)
        yield lab
    finally:
        lab.down()
