"""The folder of a unit's certificates, and how a certificate is replaced.

``current`` in it is a symbolic link to the folder of the present certificate; rotation moves the link. A reader that
resolves the link once gets a certificate and a key that belong together.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from lab.reading import read_json

CURRENT = "current"
CERTIFICATE, KEY, AUTHORITIES = "cert.pem", "key.pem", "ca.pem"
_INFO = "term.json"
# A proxy may have been configured with a certificate that it has not read yet; on a busy machine that takes seconds.
_READ_WITHIN_NS = 60 * 10**9


@dataclass(frozen=True, slots=True)
class CertificateInfo:
    """Content of a certificate, for readers without a library for certificates.

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
        """Its validity, seconds."""
        return self.not_after - self.not_before

    def is_due(self, now: float) -> bool:
        """Whether it should be renewed: half of its life is over, or the clock shows a time before it."""
        return not self.not_before <= now <= self.not_before + self.lifetime_s / 2


@dataclass(frozen=True, slots=True)
class Material:
    """Credentials of a connection, each PEM.

    Attributes:
        certificate: this side's certificate.
        key: its private key.
        authorities: certificates of the authorities that may have signed the other side's certificate.
    """

    certificate: bytes
    key: bytes
    authorities: bytes


def version(folder: Path) -> str:
    """The present certificate's folder, behind all links: a volume of Kubernetes has one more.

    Raises:
        OSError: there is no certificate.
    """
    return os.path.realpath(folder / CURRENT, strict=True)


def read(folder: Path) -> Material:
    """The present certificate, with its key.

    Raises:
        OSError: there is no certificate, or this process may not read it.
    """
    home = folder / version(folder)
    return Material(*((home / name).read_bytes() for name in (CERTIFICATE, KEY, AUTHORITIES)))


def read_info(folder: Path) -> CertificateInfo:
    """Content of the present certificate.

    Raises:
        OSError: there is no certificate.
    """
    return CertificateInfo(**read_json(folder / version(folder) / _INFO))


def write(folder: Path, material: Material, info: CertificateInfo, *, key_mode: int) -> None:
    """Makes this the present certificate, and removes older ones that no unit can be reading any more.

    Args:
        folder: of the unit's certificates.
        material: the certificate and its key.
        info: content of the certificate; its serial number names its folder.
        key_mode: file mode of the key, as for ``chmod``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = sorted((each for each in folder.iterdir() if each.is_dir() and not each.is_symlink()), key=_made_ns)
    home = folder / info.serial
    home.mkdir()
    # Who may read the key may read all else; independent of this process's umask.
    others = key_mode & 0o044
    for each in (folder, home):
        each.chmod(0o700 | others | others >> 2)
    (home / CERTIFICATE).write_bytes(material.certificate)
    (home / AUTHORITIES).write_bytes(material.authorities)
    (home / _INFO).write_text(json.dumps(asdict(info)))
    write_private(home / KEY, material.key, key_mode)
    for name in (CERTIFICATE, AUTHORITIES, _INFO):
        (home / name).chmod(0o600 | others)
    scratch = folder / f"{CURRENT}.new"
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(info.serial)
    scratch.replace(folder / CURRENT)
    for old, its_successor in pairwise(before):
        if time.time_ns() - _made_ns(its_successor) > _READ_WITHIN_NS:  # noqa: TID251 (a file's time)
            shutil.rmtree(old)


def write_private(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Writes a file that only its owner can read while it is written; then gives it ``mode``."""
    with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)
    path.chmod(mode)


def _made_ns(folder: Path) -> int:
    return folder.stat().st_mtime_ns
