"""Unix sockets of a lab's units, in the folder of this user, which no other user of this machine can enter.

They are not in the lab's own folder: the path of a Unix socket has 107 bytes at most, and a lab's folder may be deep.
"""

from __future__ import annotations

import shutil
from hashlib import sha256
from pathlib import Path

from lab.runtime import user_folder

_DIGITS = 12


def folder_of(lab: Path) -> Path:
    """Folder of the sockets of the lab in this folder."""
    return user_folder.place() / "sockets" / sha256(str(lab.absolute()).encode()).hexdigest()[:_DIGITS]


def provide(lab: Path) -> None:
    """Makes the folder.

    Raises:
        UnitError: other users can enter the folder that it is in.
    """
    user_folder.user_folder()
    folder_of(lab).mkdir(parents=True, exist_ok=True)


def remove(lab: Path) -> None:
    """Removes the folder, and the sockets in it."""
    shutil.rmtree(folder_of(lab), ignore_errors=True)
