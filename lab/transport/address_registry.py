"""How programs on this machine reach units of labs that are up: who is behind an address, and who asks there.

A unit knows by its environment who it is. The ``lab`` command, a notebook or a test is nobody's unit and may meet
several labs, so it goes by the address: what knows a lab writes down its addresses here.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from lab.transport.security import Security


class Entry(NamedTuple):
    """What there is to know of an address.

    Attributes:
        security: credentials to go there with.
        peer: role of who must be there; empty for anybody of the lab.
    """

    security: Security
    peer: str = ""


_entries: dict[str, Entry] = {}


def register(entries: dict[str, Entry]) -> None:
    """From now on channels of this process to these addresses go by what is said here."""
    _entries.update(entries)


def beside(address: str) -> Security:
    """Credentials for what stands on this side of the network, and secures what it sends on: none, unless known."""
    entry = look_up(address)
    return Security() if entry is None else entry.security


def look_up(address: str) -> Entry | None:
    """What is known of an address; of a lab that has gone with its certificates, nothing: others may have its ports."""
    entry = _entries.get(address)
    if entry is not None and entry.security.is_mtls and not Path(entry.security.folder).exists():
        del _entries[address]
        return None
    return entry
