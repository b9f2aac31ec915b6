"""Puts :mod:`docs.examples.own_proxy` between callers and models: its renderer, its role and its topology.

``lab up --plugin docs/examples/own_proxy_renderer.py --topology +gateway-own-proxy --security plaintext``
"""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

from lab.errors import UnitError
from lab.roles import rendered
from lab.routing.headers import VIA
from lab.routing.keys import HEADER
from lab.topologies import YES, Capabilities, by_header, yes
from services.renderer.child import Child
from services.renderer.proxy import ProxyRenderer

if TYPE_CHECKING:
    from services.renderer.proxy import Configuration

NAME = "own-proxy"


class OwnProxy(Child):
    """Runs the proxy; see :class:`services.renderer.proxy.Proxy`."""

    async def start(self, configuration: Configuration) -> None:
        """Writes its routes, and starts it."""
        if configuration.identity is not None:
            raise UnitError(f"{NAME} has no TLS: lab up --security plaintext")
        self._write(configuration)
        port = configuration.listen.rpartition(":")[2]
        self.run(("python", "-m", "docs.examples.own_proxy", port, "routes.json"), remedy="install Python")

    async def configure(self, configuration: Configuration) -> None:
        """Writes its routes, and has it read them."""
        self._write(configuration)
        self.send_signal(signal.SIGHUP)

    def _write(self, configuration: Configuration) -> None:
        routes = [
            {"key": key, "backends": [{"address": address} for address in upstream.addresses]}
            for key, upstream in configuration.upstreams.items()
            if upstream.addresses
        ]
        table = {"header": HEADER, "added headers": {VIA: configuration.via}, "routes": routes}
        (self.folder / "routes.json").write_text(json.dumps(table))


ROLE = rendered(NAME, "Own proxy")
TOPOLOGY = by_header(
    NAME,
    "own proxy",
    reason="a proxy that knows nothing of the lab",
    capabilities=Capabilities(shadow=yes("the client sends the copies"), shadow_by="caller", draining=YES),
    colour="#8c564b",
)
RENDERER = ProxyRenderer(name=NAME, configures="a file of routes, which SIGHUP reads", proxy=OwnProxy)
