"""The folder in which a unit finds its certificate, and how it is exchanged.

``current`` in it is a link to the folder of the present certificate; to rotate is to move that link. So whoever follows
the link once and reads from there gets a certificate and a key that belong together.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CURRENT = "current"
CERTIFICATE, KEY, AUTHORITIES = "cert.pem", "key.pem", "ca.pem"
_TERM = "term.json"


@dataclass(frozen=True, slots=True)
class Term:
    """What a certificate says, for whoever has no library for certificates.

    Attributes:
        uri: the SPIFFE id.
        serial: the certificate's serial number, hexadecimal.
        not_before: valid from, Unix seconds.
        not_after: valid until, Unix seconds.
    """

    uri: str
    serial: str
    not_before: float
    not_after: float

    @property
    def lifetime_s(self) -> float:
        """For how long it is valid, seconds."""
        return self.not_after - self.not_before

    def is_due(self, now: float) -> bool:
        """Whether half of its life is over, or the clock was set back before it, so that it is time for another."""
        return not self.not_before <= now <= self.not_before + self.lifetime_s / 2


@dataclass(frozen=True, slots=True)
class Material:
    """What a connection is made with, each PEM.

    Attributes:
        authorities: who may have signed the other side's certificate.
    """

    certificate: bytes
    key: bytes
    authorities: bytes


def version(folder: Path) -> str:
    """Which certificate is the present one.

    Raises:
        OSError: there is none.
    """
    return os.readlink(folder / CURRENT)  # noqa: PTH115 (a string, and cheaper; this is asked every second)


def read(folder: Path) -> Material:
    """The present certificate, with its key.

    Raises:
        OSError: there is none, or this process may not read it.
    """
    home = folder / version(folder)
    return Material(*((home / name).read_bytes() for name in (CERTIFICATE, KEY, AUTHORITIES)))


def read_term(folder: Path) -> Term:
    """What the present certificate says.

    Raises:
        OSError: there is none.
    """
    return Term(**json.loads((folder / version(folder) / _TERM).read_text()))


def write(folder: Path, material: Material, term: Term, *, key_mode: int) -> None:
    """Makes this the present certificate, and forgets those before the last one, which somebody may be reading.

    Args:
        folder: the unit's.
        material: the certificate.
        term: what it says; its serial names its folder.
        key_mode: who may read the key, as for ``chmod``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = sorted((each for each in folder.iterdir() if each.is_dir() and not each.is_symlink()), key=_age)
    home = folder / term.serial
    home.mkdir()
    for each in (folder, home):
        each.chmod(0o755)  # also if this process would have nobody see its files
    (home / CERTIFICATE).write_bytes(material.certificate)
    (home / AUTHORITIES).write_bytes(material.authorities)
    (home / _TERM).write_text(json.dumps(asdict(term)))
    write_private(home / KEY, material.key, key_mode)
    for name in (CERTIFICATE, AUTHORITIES, _TERM):
        (home / name).chmod(0o644)
    scratch = folder / f"{CURRENT}.new"
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(term.serial)
    scratch.replace(folder / CURRENT)
    for old in before[:-1]:
        for file in old.iterdir():
            file.unlink()
        old.rmdir()


def write_private(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Writes a file that nobody but its owner can read at any time, unless ``mode`` says otherwise in the end."""
    with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)
    path.chmod(mode)


def _age(folder: Path) -> float:
    return folder.stat().st_mtime_ns
