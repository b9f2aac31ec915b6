"""What tests of all rooms share.

Units of tests are processes, also where a Docker engine answers; tests that are about containers say so.
"""

from __future__ import annotations

import os
import secrets
import signal
from typing import TYPE_CHECKING, Any

import pytest

from lab.lab import Lab
from lab.ops.reaper import reaping
from tests.distribution import ByLab, place_of
from tests.postgresql import programs, running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.postgresql import Server

MINI_SPEC = """
topologies = ["gateway", "mesh"]
routes = "routes.yaml"
[callers.homepage]
[gateway]
replicas = 1
"""
MINI_ROUTES = """
use_cases:
  ContinueWatchingRanking:
    callers: [homepage]
    api: ranking.v1
    timeout: 2s
    default: cw-ranker@v1
models:
  cw-ranker:
    versions:
      v1: {cluster: ml-cluster-1}
clusters:
  ml-cluster-1: {replicas: 1}
"""


def pytest_configure() -> None:
    """For this process, and all that it starts without an environment of their own."""
    os.environ["LAB_RUNTIME"] = "process"
    # A shell has what it runs in the background ignore Ctrl-C, and what that starts would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByLab | None:
    """Deals tests out by the labs that they share, unless told otherwise by ``--dist``."""
    if config.getoption("dist") != "load":
        return None
    config.option.loadscopereorder = False
    return ByLab(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lets those that take long begin first."""
    items.sort(key=lambda item: place_of(item.nodeid))


@pytest.fixture(scope="session", autouse=True)
def _reaper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """However this process ends, nothing that a test has started outlives it: all of it is at home in this folder."""
    with reaping(tmp_path_factory.getbasetemp()):
        yield


@pytest.fixture(scope="session")
def _server() -> Iterator[Server]:
    if programs() is None:
        how = "PostgreSQL's server is missing: make postgres"
        # Where it is nobody's business whether all was tried, what cannot be tried is left out.
        pytest.fail(how) if os.environ.get("CI") else pytest.skip(how)
    with running_server() as server:
        yield server


@pytest.fixture
def postgresql(_server: Server) -> Server:
    """A real server, this worker's own; whoever stops it starts it again."""
    return _server


@pytest.fixture
def mini_spec(tmp_path: Path) -> Path:
    """Five units: enough for questions of life and death."""
    (tmp_path / "routes.yaml").write_text(MINI_ROUTES)
    spec = tmp_path / "mini.toml"
    spec.write_text(MINI_SPEC)
    return spec


@pytest.fixture
def new_lab(tmp_path: Path) -> Iterator[Callable[[], Lab]]:
    """Makes labs that are taken down afterwards, whatever has become of them."""
    made: list[Lab] = []

    def make() -> Lab:
        lab = Lab(f"test-{secrets.token_hex(3)}", home=tmp_path)
        made.append(lab)
        return lab

    yield make
    for lab in made:
        lab.down()
