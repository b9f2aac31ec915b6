"""A unit: one process of a lab, with its command and its addresses; and the site that it runs at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from lab.identity import Identity

CALLER, MODEL, CONTROL_PLANE = "caller", "model", "control-plane"
"""Roles that every lab has, with any topologies."""
COLLECTOR = "collector"
"""Role, and unit, that a lab has which keeps the traces of its requests."""
UNIX = "unix:"
"""Begin of the address of a Unix socket, before its path."""
ACCESS_LOG = "access.log"
"""Name of the file in which a unit writes one line a request, if it does."""
ARRIVALS = "arrivals"
"""Name of the file in which a model replica keeps what it received, see :mod:`models.stub.journal_file`."""


@dataclass(frozen=True, slots=True)
class Port:
    """Where one port of a unit is, as ``host:port``, or ``unix:PATH`` for a Unix socket.

    Attributes:
        bind: for the unit itself.
        inside: for other units: of its pod if it is in one, else of the whole lab.
        outside: for programs on this machine.
        enters_pod: whether connections to ``outside`` arrive over the loopback of the unit's own pod.
        of_pod: for units of other pods, if that is not ``inside``.
    """

    bind: str
    inside: str
    outside: str
    enters_pod: bool = False
    of_pod: str = ""

    @property
    def from_other_pods(self) -> str:
        """For units of other pods."""
        return self.of_pod or self.inside


class Site(Protocol):
    """Assigns addresses and paths to units."""

    @property
    def host_address(self) -> str:
        """Address from which programs of this machine connect; empty if units share the machine's loopback."""

    def port(self, unit: str, name: str, pod: str = "", number: int = 0, group: str = "") -> Port:
        """Addresses of a unit's port; the same at each call.

        Args:
            unit: the unit.
            name: ``grpc``, ``admin``, ``rest``, ``metrics`` or ``relay``.
            pod: the caller that the unit runs beside, if it is in a pod.
            number: port number where units have IP addresses of their own; the usual one of that name if 0.
            group: the units that serve the same, where clients reach all of them by one name.
        """

    def outside(self, unit: str, name: str) -> str:
        """``host:port`` of this machine for a unit's port."""

    def advertised(self, port: Port) -> str:
        """``ip:port`` under which the unit itself registers its own port."""

    def port_beside(self, unit: str, pod: str, number: int) -> Port:
        """Addresses of the gRPC port of a unit that believes the callers of its own pod without a certificate.

        No other user of the machine can connect there as the pod does.
        """

    def socket(self, unit: str, name: str) -> str:
        """Path of a Unix socket of a unit, for the unit; no other user of the machine can open it."""

    def path(self, unit: str, file: str) -> str:
        """Path of a unit's own file, for the unit."""

    def identity(self, unit: str) -> str:
        """Folder of a unit's certificates, for the unit."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One process.

    Attributes:
        name: unique within the lab.
        role: name of its :class:`lab.roles.Role`.
        argv: the command; ``python`` and ``envoy`` stand for those of the runtime.
        port: of its gRPC server.
        admin: of its admin page, if it has one.
        files: name → content of the files that it needs at :meth:`Site.path`.
        pod: the caller that it runs beside; its own name for a unit that runs alone.
        cluster: of a model replica.
        rest: of its REST server, if it has one.
        aliases: further names under which clients know it.
        logs_requests: whether it writes :data:`ACCESS_LOG`.
        environment: variables beside those of its runtime.
        metrics: of its metrics, if it serves any itself.
        relay: at which a link takes the connections that it passes on.
    """

    name: str
    role: str
    argv: tuple[str, ...]
    port: Port
    admin: Port | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    pod: str = ""
    cluster: str = ""
    rest: Port | None = None
    aliases: tuple[str, ...] = ()
    logs_requests: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    metrics: Port | None = None
    relay: Port | None = None

    @property
    def address(self) -> str:
        """``host:port`` or ``unix:PATH`` at which programs on this machine reach it."""
        return self.port.outside

    @property
    def ports(self) -> dict[str, Port]:
        """All its ports, by their names at :meth:`Site.port`."""
        ports = {
            "grpc": self.port,
            "admin": self.admin,
            "rest": self.rest,
            "metrics": self.metrics,
            "relay": self.relay,
        }
        return {name: port for name, port in ports.items() if port}

    @property
    def identity(self) -> Identity:
        """Its identity; all control planes share one, as each may take over from the others."""
        return Identity(self.role, CONTROL_PLANE if self.role == CONTROL_PLANE else self.cluster or self.name)

    @property
    def hosts(self) -> set[str]:
        """All hosts and names by which clients know it; empty for a unit that serves nothing."""
        addresses = (self.port.inside, self.port.outside)
        return {_host(address) for address in addresses if address}.union(self.aliases)


def _host(address: str) -> str:
    return "127.0.0.1" if address.startswith(UNIX) else address.rsplit(":", 1)[0]
