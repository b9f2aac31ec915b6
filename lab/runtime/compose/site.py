"""Addresses and paths in a lab of containers.

Every pod has its own address in the lab's network, and uses the same port numbers as every other pod. The
engine publishes each port on this machine's loopback.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network

from lab.errors import UnitError
from lab.roles import Port, Unit
from lab.runtime.pod_site import USUAL_PORTS, PodSite


@dataclass(frozen=True)
class ComposeSite(PodSite):
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

    def port(self, unit: str, name: str, pod: str = "", number: int = 0, group: str = "") -> Port:
        """Where a unit's port is.

        Raises:
            UnitError: the network is full.
        """
        del group  # each replica has its own address
        number = number or USUAL_PORTS[name]
        host = self._host(pod or unit)
        return Port(
            bind=f"0.0.0.0:{number}",
            inside=f"127.0.0.1:{number}" if pod else f"{host}:{number}",
            outside=self.outside(unit, name),
            of_pod=f"{host}:{number}" if pod else "",
        )

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
