"""The folder of this user on this machine: reservations, locks and sockets of all labs, which nobody else can enter."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lab.errors import UnitError

PATIENCE_S = 10.0
"""For a lock that is held for moments, seconds."""

_FALLBACK = Path("/tmp")  # noqa: S108 (its owner and mode are verified)
_MOST_BYTES = 45
"""Of the home folder's path: the path of a Unix socket has 107 bytes at most."""


def user_folder() -> Path:
    """The folder, which is created; the same for any ``HOME``, ``TMPDIR`` and ``LAB_HOME``.

    It is in the home folder that the machine's list of users names, and in ``/tmp`` for a user without one.

    Raises:
        UnitError: it cannot be created, or other users can enter it.
    """
    folder = place()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        remedy = "make a folder there that only you can enter"
        raise UnitError(f"{folder}: cannot be created: {error.strerror}; {remedy}") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UnitError(f"{folder}: other users can enter it, and could pose as the lab's units: remove it")
    return folder


def place() -> Path:
    """Where the folder is, or would be."""
    try:
        home = Path(pwd.getpwuid(os.getuid()).pw_dir)
        if home.stat().st_uid == os.getuid() and os.access(home, os.W_OK) and len(os.fsencode(home)) <= _MOST_BYTES:
            return home / ".cache" / "routing-lab"
    except (KeyError, OSError):
        pass
    return _FALLBACK / f"routing-lab-{os.getuid()}"


@contextmanager
def locked(name: str, within_s: float = PATIENCE_S) -> Iterator[Path]:
    """Holds the lock of this name; yields the folder.

    Raises:
        UnitError: another process holds it for longer than ``within_s`` seconds.
    """
    folder = user_folder()
    path = folder / f"{name}.lock"
    lock = FileLock(path)
    try:
        lock.acquire(timeout=within_s)
    except Timeout:
        raise UnitError(f"{path}: held by {holder_of(path)} for {within_s:g} s; end it, or try again") from None
    try:
        yield folder
    finally:
        lock.release()


def holder_of(path: Path) -> str:
    """The process that holds a lock, in words; the kernel lists locks by inode."""
    wanted = f":{path.stat().st_ino}"
    for line in Path("/proc/locks").read_text().splitlines() if Path("/proc/locks").exists() else ():
        fields = line.split()
        if "FLOCK" in fields and any(each.endswith(wanted) for each in fields):
            pid = next(each for each in fields[fields.index("FLOCK") :] if each.isdecimal())
            return f"process {pid}"
    return "another process"
