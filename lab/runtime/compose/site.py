"""Where things are in a lab of containers.

Every pod has an address of its own in the lab's network, and the same ports in it as every other. What this machine
needs to reach is published on its loopback.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lab.errors import UnitError
from lab.roles import Port
from lab.runtime import ports

if TYPE_CHECKING:
    from ipaddress import IPv4Network
    from pathlib import Path

    from lab.roles import Unit

HOME = "/var/lib/lab"
"""Where a unit finds its files, in its own container."""

IDENTITY = "/etc/lab/identity"
"""Where it finds its certificate, if there are any."""

ADMIN_PORT = 9003
_USUAL_PORTS = {"grpc": 9000, "rest": 9080, "admin": ADMIN_PORT}


@dataclass(frozen=True, slots=True)
class ComposeSite:
    """Addresses in the lab's network, handed out in the order in which they are asked for.

    Attributes:
        folder: the lab's own, to which ports of this machine are reserved.
        subnet: the lab's network.
        hosts: pod, or unit that stands alone → its address.
        published: ``unit/port`` → port of this machine.
    """

    folder: Path
    subnet: IPv4Network
    hosts: dict[str, str] = field(default_factory=dict)
    published: dict[str, int] = field(default_factory=dict)

    @property
    def visitor(self) -> str:
        """The engine's own address in the network: a published port leads there, and comes from it."""
        return str(next(self.subnet.hosts()))

    def port(self, unit: str, name: str, pod: str = "", number: int = 0) -> Port:
        """Where a unit's port is; reserves one of this machine for a port that is new to the plan.

        Raises:
            UnitError: the network is full.
        """
        number = number or _USUAL_PORTS[name]
        host = self._host(pod or unit)
        key = f"{unit}/{name}"
        if key not in self.published:
            self.published.update(ports.reserve([key], self.folder))
        return Port(
            bind=f"0.0.0.0:{number}",
            inside=f"127.0.0.1:{number}" if pod else f"{host}:{number}",
            outside=f"{ports.HOST}:{self.published[key]}",
        )

    def path(self, unit: str, file: str) -> str:
        """The same place in each container."""
        del unit
        return f"{HOME}/{file}"

    def identity(self, unit: str) -> str:
        """The same place in each container, to which only its own is brought."""
        del unit
        return IDENTITY

    def take_over(self, old: Unit, name: str) -> Port:
        """The port of a unit that is gone, with its address, for another of that name."""
        for port in ("grpc", "rest"):
            if f"{old.name}/{port}" in self.published:
                self.published[f"{name}/{port}"] = self.published.pop(f"{old.name}/{port}")
        self.hosts[name] = self.hosts.pop(old.pod)
        return old.port

    def _host(self, pod: str) -> str:
        if pod not in self.hosts:
            taken = set(self.hosts.values())
            candidates = (str(host) for host in self.subnet.hosts())
            gateway = next(candidates)  # the first is the engine's own
            del gateway
            host = next((each for each in candidates if each not in taken), None)
            if host is None:
                raise UnitError(f"network {self.subnet} has no address left for {pod}: make the lab smaller")
            self.hosts[pod] = host
        return self.hosts[pod]
