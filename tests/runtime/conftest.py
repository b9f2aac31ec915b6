"""A Docker engine. Without one these tests are skipped, but in CI they fail: there it must be."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from lab.runtime.compose import engine as docker_engine
from lab.runtime.compose import why_not

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import docker

    from lab.lab import Lab


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """A client of the engine."""
    obstacle = why_not()
    if obstacle:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(obstacle)
    client = docker_engine.connect()
    yield client
    client.close()


@pytest.fixture
def left_of(engine: docker.DockerClient) -> Callable[[Lab], list[str]]:
    """Containers, networks and volumes that an engine has of a lab."""

    def find(lab: Lab) -> list[str]:
        mine = f"lab-{lab.name}-"
        return [
            *(each.name for each in engine.containers.list(all=True, ignore_removed=True) if mine in each.name),
            *(each.name for each in engine.networks.list() if mine in each.name),
            *(each.name for each in engine.volumes.list() if mine in each.name),
        ]

    return find
