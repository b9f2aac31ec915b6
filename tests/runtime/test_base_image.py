"""The image says on which base image it was built, by its digest: a tag such as 3.13-slim moves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from docker.errors import APIError, ImageNotFound

from lab import CHECKOUT
from lab.runtime.compose import image

DIGEST = "sha256:" + "0" * 64
PULLED = SimpleNamespace(id="sha256:1", attrs={"RepoDigests": [f"python@{DIGEST}"]})
MADE_HERE = SimpleNamespace(id="sha256:2", attrs={"RepoDigests": []})


def engine(here: Any, to_pull: Any = None) -> Any:
    """An engine that has an image, or none, and may pull one."""

    def get(name: str) -> Any:
        if here is None:
            raise ImageNotFound(name)
        return here

    def pull(name: str) -> Any:
        if to_pull is None:
            raise APIError(name)
        return to_pull

    return SimpleNamespace(images=SimpleNamespace(get=get, pull=pull))


@pytest.mark.parametrize(
    ("client", "digest"),
    [
        (engine(PULLED), DIGEST),
        (engine(None, PULLED), DIGEST),
        (engine(MADE_HERE), "sha256:2"),
        (engine(None), ""),
    ],
)
def test_a_base_image_is_known_by_its_digest(client: Any, digest: str) -> None:
    assert image.digest_of(client, image.BASE_IMAGES[0]) == digest


def test_the_build_labels_the_image_with_it() -> None:
    services = yaml.safe_load((CHECKOUT / "compose" / "compose.yaml").read_text())["services"]
    builds = [each["build"] for each in services.values() if "build" in each]

    assert builds
    for build in builds:
        assert build["labels"]["org.opencontainers.image.base.digest"] == "${BASE_DIGEST:-}"
        assert build["labels"]["org.opencontainers.image.base.name"] == build["args"]["BASE_IMAGE"]
