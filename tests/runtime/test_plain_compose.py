"""The checked-in compose file's like, stood up by Docker Compose and nothing else."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import docker
import pytest

from lab import CHECKOUT
from lab.client.call import call
from lab.errors import CallError
from lab.runtime import ports
from lab.runtime.compose import subnets
from lab.runtime.compose.__main__ import standalone_document, standalone_files
from lab.runtime.compose.engine import networks
from lab.runtime.compose.site import ComposeSite
from lab.waiting import eventually

pytestmark = pytest.mark.usefixtures("engine")

WITHIN = timedelta(seconds=60)


@pytest.fixture
def site(engine: docker.DockerClient, tmp_path: Path) -> Iterator[ComposeSite]:
    # A network of somebody else's is in no book, but the engine knows of it.
    yield ComposeSite(tmp_path, {}, subnets.reserve(tmp_path, networks(engine)))
    subnets.release(tmp_path)
    ports.release(tmp_path)


@pytest.fixture
def compose(tmp_path: Path, site: ComposeSite, image_name: str) -> Iterator[Callable[..., None]]:
    file = tmp_path / "compose" / "compose.yaml"
    file.parent.mkdir()
    shutil.copy(CHECKOUT / "routes.yaml", tmp_path)
    project = f"alone-{secrets.token_hex(3)}"
    standalone_files(site, file.parent)
    file.write_text(standalone_document(site, project=project, image_name=image_name, file=str(file)))

    def run(*arguments: str) -> None:
        command = ["docker", "compose", "--file", str(file), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
        assert done.returncode == 0, done.stderr

    yield run
    run("--profile", "*", "down", "-t", "1", "-v", "--remove-orphans")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("topology", ["gateway", "gateway-header", "mesh", "proxyless"])
def test_a_profile_stands_its_topology_up_and_publishes_the_first_route_table(
    compose: Callable[..., None], site: ComposeSite, topology: str
) -> None:
    compose("--profile", topology, "up", "--detach", "--no-build")

    address = site.port("homepage", "grpc", "homepage").outside

    def version() -> str:
        try:
            return call(address, "ContinueWatchingRanking", topology, {"user_id": "u", "device": "phone"}).version
        except CallError as error:
            return str(error)

    eventually(f"{topology} answers", version, within=WITHIN, until=lambda seen: seen == "v1")
