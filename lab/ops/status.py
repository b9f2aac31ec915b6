"""What there is to see of a lab that is up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.roles import CONTROL_PLANE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.admin import ControlPlaneStatus
    from lab.client import Endpoints


@dataclass(frozen=True, slots=True)
class UnitStatus:
    """How a unit is doing.

    Attributes:
        state: ``running``, ``paused``, ``exited``, or ``absent`` if it was never started.
        address: ``host:port`` at which programs on this machine reach it.
        pid: of its process, 0 if it is a container.
        container: short id of its container, if it is one.
        last_words: the end of its log, if it has exited.
        memory_bytes: shared pages counted once over all units; 0 if it was not asked for.
    """

    name: str
    role: str
    state: str
    address: str
    pid: int
    container: str
    last_words: str
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class LabStatus:
    """How a lab is doing; ``control_plane`` is None if that does not answer."""

    name: str
    runtime: str
    units: tuple[UnitStatus, ...]
    control_plane: ControlPlaneStatus | None


@dataclass(frozen=True, slots=True)
class LabEndpoints:
    """Addresses for any outside client, each ``host:port`` unless said otherwise.

    Attributes:
        callers: caller → its service.
        clients: caller → what a client in its name connects to.
        shared: units that all callers share, models left out.
        rest: gateways and model replicas by name, as REST clients find them: URLs.
        identity: folder of the operator's certificate, for whoever comes by mTLS; empty in plaintext.
        metrics: admin pages of all Envoys; Prometheus finds ``/stats/prometheus`` there.
    """

    callers: Mapping[str, str]
    clients: Mapping[str, Endpoints]
    shared: Endpoints
    rest: Mapping[str, str]
    identity: str
    metrics: tuple[str, ...]

    @property
    def control_plane(self) -> str:
        """The control plane; of several all, with commas between."""
        return ",".join(self.shared.addresses_of(CONTROL_PLANE))
