"""A Docker engine, without which these tests are skipped, but in CI fail: there it must be. And a lab to break."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import docker
import pytest

from lab.lab import Lab
from lab.runtime.compose import engine as docker_engine
from lab.runtime.compose import image
from lab.runtime.compose.engine import obstacle
from tests.labs import SharedLabs, lab_up, write_spec
from tests.missing import missing

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
        missing(reason)
    return docker_engine.connect()


@pytest.fixture(scope="session")
def image_name(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image, built by a lab on the way if no other test's has built it."""
    name, _ = image.wanted(engine)
    if not image.is_here(engine, name):
        lab = Lab(f"image-{secrets.token_hex(3)}", home=tmp_path_factory.mktemp("image"))
        try:
            lab.up(runtime="compose", spec=Path("mini"))
        finally:
            lab.down()
    return name


@pytest.fixture
def compose_lab(own_lab: Lab, mini_spec: Path) -> Lab:
    """A small lab of containers, which is up."""
    own_lab.up(spec=mini_spec, runtime="compose")
    return own_lab


@pytest.fixture(scope="module", params=["process", "compose"])
def lab_to_break(
    request: pytest.FixtureRequest, shared_labs: SharedLabs, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    """A small lab on each runtime; a test repairs what it breaks."""
    if request.param == "compose":
        request.getfixturevalue("engine")

    def bring_up() -> AbstractContextManager[Lab]:
        home = tmp_path_factory.mktemp("to-break")
        return lab_up(home, spec=write_spec(home, routes=ROUTES), runtime=request.param)

    with shared_labs.lab(f"a lab to break, {request.param}", bring_up) as lab:
        yield lab
