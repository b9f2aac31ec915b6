"""``python -m lab.runtime.compose.image_export FOLDER`` writes the image there, to be loaded on another machine."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lab import CHECKOUT
from lab.errors import UnitError
from lab.runtime.compose import engine, image
from lab.runtime.compose.__main__ import fixed_site, standalone_document

if TYPE_CHECKING:
    import docker


def save(client: docker.DockerClient, say: Callable[[str], None], folder: Path) -> list[str]:
    """Writes the image for the checkout's present code, and its base image; builds it first if it is not here.

    The base image goes along because the image's name depends on it; the two share their layers.

    Raises:
        UnitError: the image cannot be built or written.
    """
    name, base = image.wanted(client)
    # Docker Compose resolves the build's paths from the folder of the compose file.
    with tempfile.NamedTemporaryFile("w", dir=CHECKOUT / "compose", suffix=".yaml") as file:
        file.write(standalone_document(fixed_site(), image_name=name))
        file.flush()
        image.ensure(client, {name}, base, Path(file.name), say)
    names = [each for each in (name, base) if image.is_here(client, each)]
    say(f"saving {' and '.join(names)}")
    folder.mkdir(exist_ok=True)
    with (
        gzip.open(folder / image.ARCHIVE, "wb", compresslevel=1) as packed,
        subprocess.Popen(["docker", "save", *names], stdout=subprocess.PIPE) as saving,
    ):
        assert saving.stdout is not None  # noqa: S101 (it is a pipe)
        shutil.copyfileobj(saving.stdout, packed)
    if saving.returncode:
        raise UnitError(f"docker save {' '.join(names)}: exit status {saving.returncode}")
    (folder / image.ARCHIVE_NAMES).write_text("".join(f"{each}\n" for each in names))
    return names


def _main(folder: Path) -> None:
    try:
        client = engine.connect()
    except UnitError as error:
        sys.exit(f"· {error}")
    save(client, lambda line: print(f"· {line}", file=sys.stderr), folder)  # noqa: T201


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
