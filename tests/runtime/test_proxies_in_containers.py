"""Third-party proxies in containers: they have their own image, and route as on the process runtime."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import pytest

from lab.lab import Lab
from lab.runtime.compose.project import service_of
from tests.labs import ask, lab_up, write_spec
from tests.proxies import GATEWAYS

SPEC = f"""
topologies = {list(GATEWAYS)}
routes = "routes.yaml"
[callers.homepage]
"""


@pytest.fixture(scope="module")
def lab(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A small lab with every proxy."""
    del engine
    home = tmp_path_factory.mktemp("proxies")
    with lab_up(home, spec=write_spec(home, SPEC), security="mtls", runtime="compose") as lab:
        yield lab


@pytest.mark.parametrize("topology", GATEWAYS)
def test_a_model_answers_through_a_proxy_in_a_container(lab: Lab, topology: str) -> None:
    assert ask(lab, topology).version == "v1"


def test_only_proxies_have_the_larger_image(lab: Lab, engine: docker.DockerClient) -> None:
    here = [each for each in engine.containers.list(ignore_removed=True) if lab.name in (each.name or "")]
    images = {service_of(each.labels): each.attrs["Config"]["Image"] for each in here}

    assert {name for name, image in images.items() if image.endswith("-proxies")} == set(GATEWAYS.values())
