"""Small file systems that a test can fill, mounted from a file; only root can."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def mounted(folder: Path, size_bytes: int) -> Iterator[Path]:
    """A file system of this size, made and mounted in a folder for the block.

    Raises:
        subprocess.CalledProcessError: it cannot be had here; ``stderr`` says why.
    """
    image, disk = folder / "image", folder / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(size_bytes)
    for command in (("mkfs.ext4", "-q", "-m", "0", image), ("mount", "-o", "loop", image, disk)):
        subprocess.run(command, capture_output=True, text=True, check=True)
    try:
        yield disk
    finally:
        subprocess.run(("fsfreeze", "-u", disk), check=False, capture_output=True)  # nothing if it is not frozen
        subprocess.run(("umount", "--lazy", disk), check=True)


def fill(disk: Path) -> Path:
    """Takes all space; returns the file to remove."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (2**20, 1024, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue
    return filler
