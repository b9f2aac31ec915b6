"""The side of :class:`lab.lab.Lab` that has to do with certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.errors import InputError
from lab.identity import OPERATOR
from lab.runtime.identities import Identities
from lab.runtime.lock import exclusive
from lab.runtime.state import LabState

if TYPE_CHECKING:
    from pathlib import Path

    from lab.identity.folder import Term


class Certifying:
    """What can be asked of a lab whose units prove who they are.

    Attributes:
        folder: the lab's own.
    """

    folder: Path

    def certificates(self, unit: str = "") -> dict[str, Term]:
        """What the certificates say, of one unit or of all, the operator's among them.

        Raises:
            InputError: the lab has none, or no such unit.
        """
        return Identities(self.folder).terms(self._holders(unit))

    def rotate(self, unit: str = "") -> dict[str, Term]:
        """Gives one unit a new certificate, or all; they take it up while they run. Returns what the new ones say.

        Raises:
            InputError: the lab has none, or no such unit.
        """
        names = self._holders(unit)
        self.certificates(unit)
        with exclusive(self.folder):
            units = [each for each in LabState.of(self.folder).plan.units if each.name in names]
            identities = Identities(self.folder)
            operator = identities.provide_for_operator(anew=True) if OPERATOR in names else {}
            return {**identities.provide(units, anew=True), **operator}

    def _holders(self, unit: str) -> list[str]:
        names = [*(each.name for each in LabState.of(self.folder).plan.units), OPERATOR]
        if unit and unit not in names:
            raise InputError(f"{unit!r} is no unit of this lab; there are {', '.join(names)}")
        return [unit] if unit else names
