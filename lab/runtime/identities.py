"""Certificates of a lab's units, and the credentials with which this process reaches them.

The authority is made when the lab is laid out, in the lab's folder. A unit gets its certificate before it starts.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import InputError, LabError
from lab.identity import OPERATOR, OWNER, Identity
from lab.identity import folder as folders
from lab.roles import ROLES, Unit
from lab.transport import Security
from lab.transport.channels import Entry, register
from lab.transport.security import MTLS

if TYPE_CHECKING:
    from lab.identity.authority import Authority
    from lab.identity.folder import CertificateInfo

# Not among the units' logs, which outlive a lab that failed.
_FOLDER = "pki"


@dataclass(frozen=True, slots=True)
class Identities:
    """The certificates of one lab."""

    lab: Path

    @property
    def folder(self) -> Path:
        """Folder of the authority."""
        return self.lab / _FOLDER

    def of(self, unit: str) -> Path:
        """Folder of a unit's certificates."""
        return self.folder / "units" / unit

    def establish(self, *, lifetime_s: float, key_mode: int) -> None:
        """Makes the authority, and the operator's certificate."""
        from lab.identity.authority import Authority  # noqa: PLC0415 (its library is heavy, and few commands need it)

        Authority.create(self.folder, lifetime_s=lifetime_s, key_mode=key_mode)
        self.provide_for_operator()

    def provide(self, units: Iterable[Unit], *, force: bool = False) -> dict[str, CertificateInfo]:
        """Issues certificates to units without one, or with one past half of its life; returns the new ones.

        Args:
            units: of the lab.
            force: renew all, however long they are still valid.
        """
        # A unit that serves nothing uses the operator's certificate.
        serving = [unit for unit in units if unit.hosts]
        wanted = {unit.name: (unit.identity, unit.hosts) for unit in serving if force or self._is_due(unit.name)}
        return self._issue(wanted)

    def provide_for_operator(self, *, force: bool = False) -> dict[str, CertificateInfo]:
        """Does the same for the operator, in whose name the ``lab`` command connects."""
        return self._issue({OPERATOR: (Identity(OPERATOR, "cli"), set())} if force or self._is_due(OPERATOR) else {})

    def owner(self, name: str) -> str:
        """Name of the folder of an owner's certificate, beside those of units."""
        return f"{OWNER}-{name}"

    def provide_for_owner(self, name: str) -> dict[str, CertificateInfo]:
        """Issues a new certificate to the owner of parts of the route table."""
        return self._issue({self.owner(name): (Identity(OWNER, name), set())})

    def certificates(self, names: Iterable[str]) -> dict[str, CertificateInfo]:
        """Content of these units' current certificates; units without one are left out.

        Raises:
            InputError: the lab has no certificates.
        """
        if not self.folder.exists():
            raise InputError(f"lab {self.lab.name} has no certificates: bring it up with --security mtls")
        return {name: folders.read_info(self.of(name)) for name in names if self.of(name).exists()}

    def _issue(self, wanted: Mapping[str, tuple[Identity, set[str]]]) -> dict[str, CertificateInfo]:
        authority = self._authority() if wanted else None
        if authority is None:
            return {}
        return {name: authority.issue(name, identity, hosts) for name, (identity, hosts) in wanted.items()}

    def _authority(self) -> Authority:
        from lab.identity.authority import Authority  # noqa: PLC0415 (see above)

        try:
            return Authority.load(self.folder)
        except (OSError, ValueError, KeyError) as error:
            raise LabError(f"{self.folder}: damaged ({error}); run `lab down` to clean up, then `lab up`") from error

    def _is_due(self, name: str) -> bool:
        try:
            return folders.read_info(self.of(name)).is_due(time.time())  # noqa: TID251 (certificates have dates)
        except OSError:
            return True

    def register(self, units: Iterable[Unit], mode: str) -> None:
        """Registers the credentials with which this process, as the operator, reaches the units."""
        plaintext = Security()
        if mode != MTLS:
            register({unit.address: Entry(plaintext) for unit in units})
            return
        self.provide_for_operator()
        operator = Security(MTLS, str(self.of(OPERATOR)))
        register({unit.address: Entry(_towards(unit, operator), unit.role) for unit in units})


def _towards(unit: Unit, operator: Security) -> Security:
    """Credentials for a unit; none where it takes plaintext over a loopback at which this process reaches it."""
    beside = unit.port.enters_pod or unit.port.inside == unit.port.outside
    return Security() if beside and ROLES[unit.role].takes_plaintext_beside else operator
