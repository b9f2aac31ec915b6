"""Copies files into a container, and out of it."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docker.models.containers import Container

# The image's user owns what is copied in.
_OWNER = 10001
USER = f"{_OWNER}:{_OWNER}"
"""User and group of a container's process."""

_IN_MEMORY = 16 * 1024 * 1024


def put(container: Container, target: str, folder: str, files: Iterable[Path]) -> None:
    """Makes a folder in a container's folder ``target``, with copies of the files in it."""
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as archive:
        with tarfile.open(fileobj=archive, mode="w") as tar:
            directory = tarfile.TarInfo(folder)
            directory.type, directory.mode, directory.uid = tarfile.DIRTYPE, 0o755, _OWNER
            tar.addfile(directory)
            for file in files:
                tar.add(file, f"{folder}/{file.name}", filter=_owned)
        archive.seek(0)
        container.put_archive(target, archive)


def bring_back(container: Container, path: str, target: Path) -> None:
    """Copies a file or folder of a container into a folder of this machine.

    Raises:
        docker.errors.NotFound: there is no such file.
    """
    chunks, _ = container.get_archive(path)
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as archive:
        for chunk in chunks:
            archive.write(chunk)
        archive.seek(0)
        with tarfile.open(fileobj=archive) as tar:
            target.mkdir(parents=True, exist_ok=True)
            tar.extractall(target, filter=_private)  # noqa: S202 (the filter keeps all within the folder)


def _private(info: tarfile.TarInfo, target: str) -> tarfile.TarInfo:
    return tarfile.data_filter(info.replace(mode=info.mode & 0o700), target)


def _owned(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = _OWNER
    return info
