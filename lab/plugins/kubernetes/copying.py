"""Copies files of runs into a driver's container, and out of it, by ``tar`` in the container."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lab.plugins.kubernetes.naming import DRIVER
from lab.plugins.kubernetes.pods import RUNS

if TYPE_CHECKING:
    from lab.plugins.kubernetes.api import Api

_IN_MEMORY = 16 * 1024 * 1024


def put(api: Api, pod: str, run: str, files: Sequence[Path]) -> None:
    """Makes a run's folder in a pod's driver container, with copies of the files in it."""
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as archive:
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for file in files:
                tar.add(file, f"{run}/{file.name}")
        size = archive.tell()
        archive.seek(0)
        # By size: older protocols cannot close one direction of a stream.
        unpack = f"head -c {size} | tar -xf - -C {RUNS} --no-same-owner"
        api.execute(pod, DRIVER, ["sh", "-c", unpack], stdin=archive)


def bring_back(api: Api, pod: str, path: str, target: Path) -> bool:
    """Copies a file or folder of a pod's runs, with its path, into a folder; returns whether it was there."""
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as archive:
        status, _ = api.execute(pod, DRIVER, ["tar", "-cf", "-", "-C", RUNS, path], out=archive)
        if status:
            return False
        archive.seek(0)
        with tarfile.open(fileobj=archive) as tar:
            tar.extractall(target, filter="data")
    return True
