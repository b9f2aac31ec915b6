"""Unix sockets of a lab's units, in a folder that no other user of this machine can enter.

The folder is not the lab's own: the path of a Unix socket has 107 bytes at most, and a lab's folder may be deep.
"""

from __future__ import annotations

import os
import shutil
import stat
from hashlib import sha256
from pathlib import Path

from lab.errors import UnitError
from lab.runtime.reservations import PLACE

_DIGITS = 12


def folder_of(lab: Path) -> Path:
    """Folder of the sockets of the lab in this folder."""
    return PLACE / f"lab-{os.getuid()}-{sha256(str(lab.absolute()).encode()).hexdigest()[:_DIGITS]}"


def provide(lab: Path) -> None:
    """Makes the folder.

    Raises:
        UnitError: somebody else has made something of that name.
    """
    folder = folder_of(lab)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UnitError(f"{folder}: is open to other users, who could pose as the lab's units: remove it")


def remove(lab: Path) -> None:
    """Removes the folder, and the sockets in it."""
    shutil.rmtree(folder_of(lab), ignore_errors=True)
