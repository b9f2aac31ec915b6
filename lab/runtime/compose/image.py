"""The image of all containers, and that of third-party proxies, which is larger.

Its tag is a hash of everything in it, so a container always runs the checkout's code. After a change the next lab
builds a new image, which takes seconds, as the packages are in their own layer.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from docker.errors import APIError, ImageNotFound

from lab import CHECKOUT
from lab.runtime.compose import engine
from lab.runtime.user_folder import locked

if TYPE_CHECKING:
    import docker

REPOSITORY = "inference-routing-lab"
BASE_IMAGES = ("python:3.13-slim", f"{REPOSITORY}-base:local")
"""Candidates for the base image: the first that is here, else the first, pulled."""

_FILES = (
    *("compose/Dockerfile", "compose/healthcheck.py", "compose/entry_points.py"),
    *(".ci/setup", "pyproject.toml", "requirements.lock"),
)
_ROOMS = ("lab", "services", "models")
_CODE = (".py", ".js")
_BUILT_WITHIN_S = 1_800.0
LABEL = f"{REPOSITORY}.checkout"
"""Label of the image: the checkout that it was built from."""


ARCHIVE_FOLDER = CHECKOUT / "carried"
ARCHIVE_NAMES, ARCHIVE = "image.txt", "image.tar.gz"
"""In that folder, for machines that can neither pull nor build: see ``lab.runtime.compose.image_export``."""


def load(client: docker.DockerClient, say: Callable[[str], None], folder: Path = ARCHIVE_FOLDER) -> None:
    """Loads the image that came with the checkout, if there is one and the engine lacks it."""
    names = folder / ARCHIVE_NAMES
    if not names.exists() or all(is_here(client, name) for name in names.read_text().split()):
        return
    say("loading the image that came with this checkout")
    with gzip.open(folder / ARCHIVE) as file:
        client.images.load(file)


def wanted(client: docker.DockerClient) -> tuple[str, str]:
    """Names of the image for the checkout's present code, and of its base image; it may not be built yet."""
    here = (each for each in BASE_IMAGES if is_here(client, each))
    base = os.environ.get("BASE_IMAGE") or next(here, BASE_IMAGES[0])
    digest = hashlib.sha256(base.encode())
    for path in _sources():
        digest.update(str(path.relative_to(CHECKOUT)).encode())
        digest.update(path.read_bytes())
    return f"{REPOSITORY}:{digest.hexdigest()[:12]}", base


def ensure(
    client: docker.DockerClient, names: Collection[str], base: str, compose_file: Path, say: Callable[[str], None]
) -> None:
    """Builds images unless they are here; processes that need them at the same time build them once.

    Args:
        client: the engine.
        names: of the images: the lab's own, and others on top of it, whose names begin with its name.
        base: name of the base image.
        compose_file: describes the build.
        say: called with a line of progress.

    Raises:
        UnitError: the build failed.
    """
    with locked("image", _BUILT_WITHIN_S):
        if all(is_here(client, name) for name in names):
            return
        digest = digest_of(client, base)
        say(f"building the image on {base} ({digest or 'not here'}), once for this state of the code")
        engine.compose(
            ["--file", str(compose_file), "--profile", "all", "--progress", "plain", "build"],
            {"BASE_IMAGE": base, "BASE_DIGEST": digest, **_certificate()},
            lambda line: _tell(line, say),
        )
        _forget_older(client, min(names))


def digest_of(client: docker.DockerClient, base: str) -> str:
    """What the name of the base image means now: its digest in the registry, or its id if it comes from none.

    Pulls it if the engine lacks it; empty if that fails, which the build then says.
    """
    try:
        found = client.images.get(base)
    except ImageNotFound:
        try:
            found = client.images.pull(base)
        except APIError:
            return ""
    known = found.attrs.get("RepoDigests") or [found.id]
    return str(known[0]).rpartition("@")[2]


def _sources() -> Iterator[Path]:
    yield from (CHECKOUT / file for file in _FILES)
    for room in _ROOMS:
        yield from sorted(path for path in (CHECKOUT / room).rglob("*") if path.suffix in _CODE)


def is_here(client: docker.DockerClient, name: str) -> bool:
    """Whether the engine has an image of this name."""
    try:
        client.images.get(name)
    except ImageNotFound:
        return False
    return True


def _certificate() -> dict[str, str]:
    """The variable that gives the build the certificate of a proxy, if pip has one on this machine."""
    path = os.environ.get("PIP_CERT", "")
    return {"PIP_CERT": path} if path and Path(path).is_file() else {}


def _tell(line: str, say: Callable[[str], None]) -> None:
    step = re.match(r"#\d+ \[(?:\S+ )*\d+/\d+\] (.*)", line)
    if step:
        say(f"  {' '.join(step[1].split())[:100]}")


def _forget_older(client: docker.DockerClient, name: str) -> None:
    """Removes images of this checkout's earlier code, unless a lab still runs on one."""
    for image in client.images.list(REPOSITORY, filters={"label": f"{LABEL}={CHECKOUT}"}):
        for tag in image.tags:
            if tag.startswith(f"{REPOSITORY}:") and not tag.startswith(name):
                with suppress(APIError):  # in use
                    client.images.remove(tag)
