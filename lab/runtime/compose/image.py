"""The one image that every unit's container is made from.

Its tag is a fingerprint of all that goes into it, so that a container never runs other code than the checkout's: after
a change the next lab builds the image anew, which takes seconds, since the packages are a layer of their own.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from docker.errors import APIError, ImageNotFound
from filelock import FileLock

from lab.checkout import CHECKOUT
from lab.runtime import reservations
from lab.runtime.compose import engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import docker

REPOSITORY = "inference-routing-lab"
BASE_IMAGES = ("python:3.13-slim", f"{REPOSITORY}-base:local")
"""What is built upon: the first of these that is here, else the first, pulled."""

_FILES = ("compose/Dockerfile", "compose/requirements.lock", "compose/healthcheck.py")
_ROOMS = ("lab", "services", "models")
LABEL = f"{REPOSITORY}.checkout"
"""Of the image: which checkout it was built from."""


def wanted(client: docker.DockerClient) -> tuple[str, str]:
    """Name of the image that this state of the code needs, and what it is built upon; it may not be here yet."""
    here = (each for each in BASE_IMAGES if is_here(client, each))
    base = os.environ.get("BASE_IMAGE") or next(here, BASE_IMAGES[0])
    digest = hashlib.sha256(base.encode())
    for path in _sources():
        digest.update(str(path.relative_to(CHECKOUT)).encode())
        digest.update(path.read_bytes())
    return f"{REPOSITORY}:{digest.hexdigest()[:12]}", base


def ensure(client: docker.DockerClient, name: str, base: str, compose_file: Path, say: Callable[[str], None]) -> None:
    """Builds the image unless it is here; processes that want it at once build it once.

    Args:
        client: the engine.
        name: of the image.
        base: what to build upon.
        compose_file: says how to build it.
        say: told how far it is.

    Raises:
        UnitError: it cannot be built.
    """
    with FileLock(reservations.PLACE / f"lab-image-{os.getuid()}.lock"):
        if is_here(client, name):
            return
        say(f"building the image on {base}, once for this state of the code")
        engine.compose(
            ["--file", str(compose_file), "--profile", "all", "--progress", "plain", "build"],
            {"BASE_IMAGE": base, **_certificate()},
            lambda line: _tell(line, say),
        )
        _forget_older(client, name)


def _sources() -> Iterator[Path]:
    yield from (CHECKOUT / file for file in _FILES)
    for room in _ROOMS:
        yield from sorted((CHECKOUT / room).rglob("*.py"))


def is_here(client: docker.DockerClient, name: str) -> bool:
    """Whether the engine has an image of this name."""
    try:
        client.images.get(name)
    except ImageNotFound:
        return False
    return True


def _certificate() -> dict[str, str]:
    """Behind a proxy with a certificate of its own pip has been told of it here, and must be told in the build."""
    path = os.environ.get("PIP_CERT", "")
    return {"PIP_CERT": path} if path and Path(path).is_file() else {}


def _tell(line: str, say: Callable[[str], None]) -> None:
    step = re.match(r"#\d+ \[(?:\S+ )*\d+/\d+\] (.*)", line)
    if step:
        say(f"  {' '.join(step[1].split())[:100]}")


def _forget_older(client: docker.DockerClient, name: str) -> None:
    """Images of this checkout's earlier states, unless a lab still runs on one."""
    for image in client.images.list(REPOSITORY, filters={"label": f"{LABEL}={CHECKOUT}"}):
        for tag in image.tags:
            if tag.startswith(f"{REPOSITORY}:") and tag != name:
                with suppress(APIError):  # in use
                    client.images.remove(tag)
