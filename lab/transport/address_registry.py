"""Credentials and expected peers by address, for programs that reach several labs.

A unit has its credentials from its environment. The ``lab`` command, a notebook or a test is no unit and may use
several labs, so its credentials depend on the address: code that opens a lab registers the lab's addresses here.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from lab.transport.security import Security


class Entry(NamedTuple):
    """How to connect to an address.

    Attributes:
        security: credentials to present.
        peer: role that the other end must prove; empty for any unit of the lab.
    """

    security: Security
    peer: str = ""


_entries: dict[str, Entry] = {}


def register(entries: dict[str, Entry]) -> None:
    """Makes this process's channels to these addresses use these entries from now on."""
    _entries.update(entries)


def beside(address: str) -> Security:
    """Credentials for a sidecar, which is on this side of the network: plaintext, unless the address is registered."""
    entry = look_up(address)
    return Security() if entry is None else entry.security


def look_up(address: str) -> Entry | None:
    """The entry of an address; None if it has none or its lab is gone, whose port another lab may have now."""
    entry = _entries.get(address)
    if entry is not None and entry.security.is_mtls and not Path(entry.security.folder).exists():
        del _entries[address]
        return None
    return entry
