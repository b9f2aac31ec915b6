"""Reads files within bounds: regular files only, up to a size; UTF-8; JSON up to a depth and a number of values.

A device never ends, a named pipe never begins, and deeply nested JSON exhausts the stack. All of them raise what
pathlib and json raise for a file that cannot be read, ``OSError`` and ``ValueError``, so that callers need no further
branch.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any

MAX_BYTES = 256 * 1024 * 1024
"""Limit for a file that is read as a whole."""

MAX_SMALL_BYTES = 16 * 1024 * 1024
"""Limit for what people write: specs, plugins, programs of users."""

MAX_DEPTH = 64
MAX_VALUES = 10_000_000
"""Limit for the values in one JSON text: an empty list takes two bytes of text, and sixty of memory."""

_MAX_DIGITS = 20
_CHUNK = 65_536
_TOO_DEEP = f"is nested more than {MAX_DEPTH} deep"


class NotTextError(ValueError):
    """A file is not UTF-8.

    Attributes:
        lineno: the line, as of errors of :mod:`json`.
    """

    def __init__(self, problem: str, lineno: int) -> None:
        super().__init__(problem)
        self.lineno = lineno


def where(path: Path, error: ValueError) -> str:
    """``path:line``, or the path alone if the error does not know its line."""
    line = getattr(error, "lineno", 0)
    return f"{path}:{line}" if line else str(path)


def require_regular(path: Path) -> None:
    """Raises OSError unless there is a regular file."""
    if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():  # opening a directory raises by itself
        raise OSError(errno.EINVAL, "is not a regular file", str(path))


def open_regular(path: Path) -> BufferedReader:
    """Opens a regular file for reading.

    Raises:
        OSError: it cannot be opened, or is a device, a pipe or a socket.
    """
    require_regular(path)
    # Not blocking, in case a named pipe takes the file's place at this moment.
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


def read_bytes(path: Path, most: int = MAX_BYTES) -> bytes:
    """The content of a regular file of at most ``most`` bytes.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger.
    """
    with open_regular(path) as file:
        content = b""
        size = os.fstat(file.fileno()).st_size  # files of /proc have none, and logs grow
        while size <= most and len(content) <= most and (more := file.read(size + _CHUNK)):
            content += more
    if max(size, len(content)) > most:
        raise OSError(errno.EFBIG, f"is larger than {most >> 10:,} KB", str(path))
    return content


def read_text(path: Path, most: int = MAX_BYTES) -> str:
    """The text of a regular UTF-8 file of at most ``most`` bytes.

    Raises:
        OSError: as :func:`read_bytes`.
        NotTextError: it is not UTF-8.
    """
    content = read_bytes(path, most)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise NotTextError(f"byte 0x{content[error.start]:02x} is not UTF-8", line) from None


def read_json(path: Path, most: int = MAX_BYTES) -> Any:
    """The value of a JSON file.

    Raises:
        OSError: as :func:`read_bytes`.
        ValueError: as :func:`read_text` and :func:`parse_json`.
    """
    return parse_json(read_text(path, most))


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON, is nested too deep, has too many values, or a whole number of more than 64 bits.
    """
    if text.count(",") + text.count("[") + text.count("{") > MAX_VALUES:
        raise ValueError(f"has more than {MAX_VALUES:,} values")
    try:
        value = json.loads(text, parse_int=_whole)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    require_shallow(value)
    return value


def require_shallow(value: object) -> None:
    """Raises ValueError if mappings and lists are nested too deep."""
    level: list[Any] = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        level = [
            child
            for each in level
            for child in (each.values() if isinstance(each, dict) else each)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


def _whole(digits: str) -> int:
    if len(digits) > _MAX_DIGITS + (digits[0] == "-") or not -(2**63) <= (number := int(digits)) < 2**64:
        raise ValueError(f"number {digits[:_MAX_DIGITS]}… has more than 64 bits")
    return number
