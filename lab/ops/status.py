"""Status and addresses of a lab that is up, as frozen values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lab.roles import CALLER, CONTROL_PLANE, MODEL, ROLES, Placement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.client import Endpoints
    from lab.client.admin_values import ControlPlaneStatus
    from lab.roles import Role


@dataclass(frozen=True, slots=True)
class UnitStatus:
    """Status of one unit.

    Attributes:
        state: ``running``, ``paused``, ``exited``, or ``absent`` if it was never started.
        address: ``host:port`` at which programs on this machine reach it.
        pid: of its process; 0 if it is a container.
        container: short id of its container; empty if it is a process.
        last_words: end of its log if it has exited.
        memory_bytes: with shared pages counted once over all units; 0 if not requested.
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
    """Status of a lab; ``control_plane`` is None if it does not answer."""

    name: str
    runtime: str
    units: tuple[UnitStatus, ...]
    control_plane: ControlPlaneStatus | None

    def to_document(self) -> dict[str, Any]:
        """As ``lab status --json`` prints it."""
        known = self.control_plane
        return {
            "runtime": self.runtime,
            "revision": known.revision if known else None,
            "units": [_without_other_id(asdict(unit)) for unit in self.units],
            "nodes": [asdict(node) for node in known.nodes] if known else [],
        }


@dataclass(frozen=True, slots=True)
class LabEndpoints:
    """Addresses for any outside client, each ``host:port`` unless said otherwise.

    Attributes:
        callers: caller → its service.
        clients: caller → addresses that a client with its identity connects to.
        shared: units that all callers share, models left out.
        rest: gateway or model replica → base URL of its REST API.
        identity: folder of the operator's certificate, for mTLS clients; empty in plaintext.
        metrics: admin addresses of all Envoys, with ``/stats/prometheus`` for Prometheus.
    """

    callers: Mapping[str, str]
    clients: Mapping[str, Endpoints]
    shared: Endpoints
    rest: Mapping[str, str]
    identity: str
    metrics: tuple[str, ...]

    def beside(self, caller: str) -> dict[str, str | None]:
        """Address of each unit beside a caller, by role; None for a role that this lab has none of."""
        by_role = self.clients[caller].by_role
        return {role: next(iter(by_role.get(role, ())), None) for role in roles_beside_callers()}

    def to_document(self) -> dict[str, Any]:
        """As ``lab endpoints --json`` prints it."""
        shared = [role for role in ROLES.values() if role.name not in {*roles_beside_callers(), CALLER, MODEL}]
        return {
            "callers": {
                caller: {"address": address, **self.beside(caller)} for caller, address in self.callers.items()
            },
            **{role.name.replace("-", "_"): self._shared(role) for role in shared},
            "rest": dict(self.rest),
            "identity": self.identity or None,
            "metrics": [f"http://{address}/stats/prometheus" for address in self.metrics],
        }

    def _shared(self, role: Role) -> list[str] | str | None:
        addresses = self.shared.by_role.get(role.name, ())
        return list(addresses) if role.placement is Placement.REPLICATED else ",".join(addresses) or None

    @property
    def control_plane(self) -> str:
        """Addresses of the control planes, with commas between."""
        return ",".join(self.shared.addresses_of(CONTROL_PLANE))


def roles_beside_callers() -> list[str]:
    """Roles whose units run beside each caller."""
    return [each.name for each in ROLES.values() if each.placement is Placement.BESIDE_CALLER and each.name != CALLER]


def _without_other_id(unit: dict[str, Any]) -> dict[str, Any]:
    """Leaves out the container id of a process, and the pid of a container."""
    return {name: value for name, value in unit.items() if value or name not in {"pid", "container"}}
