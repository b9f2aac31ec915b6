"""The image as a file in the checkout, for machines that can neither pull nor build one.

``python -m lab.runtime.compose.image_export`` writes it.
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

from lab import CHECKOUT
from lab.runtime.compose import image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import docker

FOLDER = CHECKOUT / "carried"
NAMES, IMAGE = "image.txt", "image.tar.gz"


def load(client: docker.DockerClient, say: Callable[[str], None], folder: Path = FOLDER) -> None:
    """Loads the image that came with the checkout, if there is one and the engine lacks it."""
    names = folder / NAMES
    if not names.exists() or all(image.is_here(client, name) for name in names.read_text().split()):
        return
    say("loading the image that came with this checkout")
    with gzip.open(folder / IMAGE) as file:
        client.images.load(file)
