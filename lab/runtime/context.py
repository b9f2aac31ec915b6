"""The folder, recorded state, runtime and control plane of one lab, shared by the parts of ``lab.lab.Lab``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lab.client.admin import AdminClient
from lab.errors import InputError
from lab.runtime import Runtime, make_runtime
from lab.runtime.identities import Identities
from lab.runtime.state import LabState
from lab.transport import ChannelCache, Security
from lab.transport.security import MTLS


@dataclass(frozen=True, slots=True)
class LabContext:
    """What the parts of :class:`lab.lab.Lab` share.

    Every method raises :class:`lab.errors.LabNotRunningError` if the lab is down.
    """

    folder: Path
    _channels: ChannelCache = field(default_factory=ChannelCache, compare=False)

    @property
    def name(self) -> str:
        """Name of the lab."""
        return self.folder.name

    def disconnect(self) -> None:
        """Closes connections to the control plane, so that gRPC does not report on stderr how they end."""
        self._channels.clear()

    def state(self) -> LabState:
        """The lab's recorded state, read from its folder."""
        return LabState.of(self.folder)

    def runtime(self, state: LabState | None = None) -> Runtime:
        """The runtime that its units run on; ``state`` spares reading it again."""
        state = state or self.state()
        return make_runtime(state.runtime, self.folder, state.security)

    def admin(self, state: LabState | None = None, *, owner: str = "") -> AdminClient:
        """A client of its control plane's admin API.

        Args:
            state: spares reading it again.
            owner: in whose name it connects, who has a certificate; the operator if empty.

        Raises:
            InputError: the owner has no certificate.
        """
        state = state or self.state()
        if not owner:
            return AdminClient(state.plan.control_plane, self._channels)
        identities = Identities(self.folder)
        if state.security != MTLS:
            raise InputError(f"--as: {owner} proves itself by a certificate; bring the lab up with --security mtls")
        if not (folder := identities.of(identities.owner(owner))).exists():
            raise InputError(f"--as: {owner} has no certificate; `lab pki owner {owner}` makes one")
        return AdminClient(state.plan.control_plane, security=Security(MTLS, str(folder)))
