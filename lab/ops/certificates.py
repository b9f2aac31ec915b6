"""``lab.certificates``: the certificates of a lab that uses mutual TLS."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lab.errors import InputError
from lab.identity import OPERATOR
from lab.routing.schema import NAME_PATTERN
from lab.runtime.identities import Identities
from lab.runtime.lock import exclusive

if TYPE_CHECKING:
    from lab.identity.folder import CertificateInfo
    from lab.runtime.context import LabContext


class Certificates:
    """The certificates of one lab's units and of its operator."""

    def __init__(self, context: LabContext) -> None:
        self._context = context
        self._identities = Identities(context.folder)

    def show(self, unit: str = "") -> dict[str, CertificateInfo]:
        """Identity, serial and validity of each certificate, by unit; of all, the operator's included, by default.

        Raises:
            InputError: the lab is in plaintext, or has no such unit.
        """
        return self._identities.certificates(self._holders(unit))

    def rotate(self, unit: str = "") -> dict[str, CertificateInfo]:
        """Issues new certificates to one unit or to all, which load them while they run; returns the new ones.

        Raises:
            InputError: the lab is in plaintext, or has no such unit.
        """
        names = self._holders(unit)
        self.show(unit)
        with exclusive(self._context.folder):
            units = [each for each in self._context.state().plan.units if each.name in names]
            operator = self._identities.provide_for_operator(force=True) if OPERATOR in names else {}
            renewed = self._identities.provide(units, force=True)
            self._context.runtime().deliver(units)
            return {**renewed, **operator}

    def issue_to_owner(self, name: str) -> dict[str, CertificateInfo]:
        """Issues a certificate with which its holder publishes changes of what is theirs in the route table.

        Raises:
            InputError: the lab is in plaintext, or the name cannot be that of an owner.
        """
        if not re.fullmatch(NAME_PATTERN, name, re.ASCII):
            raise InputError(f"{name!r} cannot name an owner; write lower-case letters, digits and dashes")
        self._identities.certificates([])  # raises in plaintext
        with exclusive(self._context.folder):
            return self._identities.provide_for_owner(name)

    def _holders(self, unit: str) -> list[str]:
        names = [*(each.name for each in self._context.state().plan.units), OPERATOR]
        if unit and unit not in names:
            raise InputError(f"{unit!r} is not a unit of this lab; there are {', '.join(names)}")
        return [unit] if unit else names
