"""Ports and paths in a container, the same in each: what labs of containers and of Kubernetes' pods share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.runtime._runtime import RuntimeSite

if TYPE_CHECKING:
    from lab.roles import Port

HOME = "/var/lib/lab"
"""Folder of a unit's files, in its container."""
IDENTITY = "/etc/lab/identity"
"""Folder of a unit's certificates, in its container."""
USUAL_PORTS = {"grpc": 9000, "rest": 9080, "admin": 9003, "relay": 9090}


class PodSite(RuntimeSite):
    """Every pod has its own network, so all use the same port numbers."""

    def port_beside(self, unit: str, pod: str, number: int) -> Port:
        """A port like any other: only the pod's own containers share its loopback."""
        return self.port(unit, "grpc", pod, number)

    def socket(self, unit: str, name: str) -> str:
        """A path in ``/tmp``, of which each container has its own."""
        del unit
        return f"/tmp/{name}"  # noqa: S108 (within the container)

    def path(self, unit: str, file: str) -> str:
        """The same path in each container."""
        del unit
        return f"{HOME}/{file}"

    def identity(self, unit: str) -> str:
        """The same path in each container; only the unit's own certificates are mounted there."""
        del unit
        return IDENTITY
