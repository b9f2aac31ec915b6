"""What a proxy is to the renderer: a configuration, and how to put it in force; and the kind that a file adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lab.registry import Registry
from lab.roles import ROLES
from lab.routing import headers
from lab.topologies import TOPOLOGIES


@dataclass(frozen=True, slots=True)
class Upstream:
    """Replicas that answer the same requests.

    Attributes:
        addresses: ``ip:port`` of each; empty while there are none.
        host_name: name that their certificates must have.
    """

    addresses: tuple[str, ...]
    host_name: str


@dataclass(frozen=True, slots=True)
class Configuration:
    """All that a proxy needs to know.

    Attributes:
        node: this unit's identity, ``role/name``, which may send requests beside the callers.
        listen: ``ip:port`` to serve on.
        upstreams: by routing key.
        renderer: this process, which serves gRPC's health service; one of the upstreams.
        picks: what the lab's picker configures here, see :class:`lab.pickers.Picker`; None if it says nothing.
        identity: folder of its certificate, key and authorities, another one for each certificate, see
            :mod:`lab.identity.folder`; None in plaintext.
    """

    node: str
    listen: str
    upstreams: Mapping[str, Upstream]
    renderer: Upstream
    identity: Path | None
    picks: Any = None

    @property
    def via(self) -> str:
        """What the proxy adds to the header :data:`~lab.routing.headers.VIA` of each request."""
        role, _, unit = self.node.partition("/")
        return headers.via(role, unit)

    def names(self) -> dict[Upstream, str]:
        """A name for each distinct upstream that has replicas: ``u0``, ``u1`` and so on."""
        distinct = dict.fromkeys(each for each in self.upstreams.values() if each.addresses)
        return {each: f"u{number}" for number, each in enumerate(distinct)}


class Proxy(Protocol):
    """Runs one proxy as a child of this process."""

    @property
    def last_line(self) -> str:
        """The last line that it wrote."""

    async def start(self, configuration: Configuration) -> None:
        """Starts it.

        Raises:
            UnitError: it is not installed.
        """

    async def configure(self, configuration: Configuration) -> None:
        """Makes it follow another configuration, and returns once no open connection keeps to the previous one.

        Waits for as long as that takes; a proxy that refuses may never follow.

        Raises:
            UnitError: it refuses.
        """

    async def ended(self) -> str:
        """Returns its last words once it has ended by itself."""

    async def stop(self, within_s: float) -> None:
        """Ends it: requests in flight may finish within ``within_s`` seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyRenderer:
    """A proxy that follows no rules by itself, and how it is run and configured.

    Attributes:
        name: of its role, see :func:`lab.roles.rendered`, and of the control of ``lab conform`` that runs it.
        configures: what a change of routes replaces, and how, in a few words for the docs.
        proxy: makes it; called before this process has threads, as it forks.
    """

    name: str
    configures: str
    proxy: Callable[[], Proxy]

    @property
    def installed(self) -> bool:
        """Whether this machine has the program of its role."""
        program = ROLES[self.name].program
        return program is None or program.installed()


RENDERERS = Registry(ProxyRenderer, group="routing_lab.renderers", noun="proxy renderer")
"""All proxies that a renderer configures: those of distributions, the lab's own among them, and of plugin files."""


def rendered_topologies() -> dict[str, ProxyRenderer]:
    """The topologies that pass through one of these proxies, by name."""
    return {
        topology.name: RENDERERS[role]
        for topology in TOPOLOGIES.values()
        for role in topology.between
        if role in RENDERERS
    }
