"""Addresses and paths in a lab of containers.

Every pod has an address of its own in the lab's network, and uses the same port numbers as every other pod. The
engine publishes each port on this machine's loopback.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network

from lab.errors import UnitError
from lab.roles import Port, Unit
from lab.runtime._runtime import RuntimeSite

HOME = "/var/lib/lab"
"""Folder of a unit's files, in its container."""

IDENTITY = "/etc/lab/identity"
"""Folder of a unit's certificates, in its container."""

ADMIN_PORT = 9003
_USUAL_PORTS = {"grpc": 9000, "rest": 9080, "admin": ADMIN_PORT}


@dataclass(frozen=True)
class ComposeSite(RuntimeSite):
    """Addresses in the lab's network, assigned in the order of the calls.

    Attributes:
        subnet: the lab's network.
        hosts: pod, or unit that stands alone → its address.
    """

    subnet: IPv4Network
    hosts: dict[str, str] = field(default_factory=dict)

    @property
    def host_address(self) -> str:
        """The engine's own address in the network: connections to published ports come from it."""
        return str(next(self.subnet.hosts()))

    def port(self, unit: str, name: str, pod: str = "", number: int = 0) -> Port:
        """Where a unit's port is.

        Raises:
            UnitError: the network is full.
        """
        number = number or _USUAL_PORTS[name]
        host = self._host(pod or unit)
        return Port(
            bind=f"0.0.0.0:{number}",
            inside=f"127.0.0.1:{number}" if pod else f"{host}:{number}",
            outside=self.outside(unit, name),
        )

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

    def take_over(self, old: Unit, name: str) -> Port:
        """Gives the ports and the address of a unit that is gone to a new unit of that name."""
        self.hosts[name] = self.hosts.pop(old.pod)
        return super().take_over(old, name)

    def _host(self, pod: str) -> str:
        if pod not in self.hosts:
            taken = {self.host_address, *self.hosts.values()}
            host = next((str(each) for each in self.subnet.hosts() if str(each) not in taken), None)
            if host is None:
                raise UnitError(f"network {self.subnet} has no address left for {pod}: make the lab smaller")
            self.hosts[pod] = host
        return self.hosts[pod]
