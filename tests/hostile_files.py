"""Files that no reader may hang on, exhaust memory with, or answer with a traceback."""

import os
from collections.abc import Callable
from pathlib import Path


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 36)


FILES: dict[str, Callable[[Path], object]] = {
    "device": lambda path: path.symlink_to("/dev/zero"),
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "link to itself": lambda path: path.symlink_to(path),
    "sparse": _sparse,
    "memory": lambda path: path.symlink_to("/proc/self/mem"),
    "empty": Path.touch,
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe"),
    "escapes": lambda path: path.write_bytes(b"\x1b[31mred\n\x1b]0;title\x07"),
    "nested lists": lambda path: path.write_bytes(b"[" * 100_000),
    "nested mappings": lambda path: path.write_bytes(b'{"a":' * 100_000),
    "digits": lambda path: path.write_bytes(b"9" * 100_000),
    "null": lambda path: path.write_bytes(b"null"),
    "list": lambda path: path.write_bytes(b"[null]"),
    "mapping": lambda path: path.write_bytes(b'{"a": null}'),
    "text": lambda path: path.write_bytes(b'"text"'),
}
"""By name, a function that makes one."""


def put(kind: str, path: Path) -> Path:
    """Puts such a file in place of another."""
    path.unlink(missing_ok=True)
    FILES[kind](path)
    return path
