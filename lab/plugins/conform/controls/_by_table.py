"""``python -m lab.plugins.conform.controls._by_table nginx``: runs a proxy, configured by tables on standard input.

Envoy has a configuration for conformance alone; the others are configured by the renderers of their topologies.

A table is a line of JSON. Each is answered by a line once the proxy follows: ``ok``, or what went wrong. At the end of
the input the proxy ends gracefully.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from lab.errors import UnitError
from lab.plugins.conform.controls._envoy import Envoy
from lab.transport import listen, new_server
from services.renderer.proxy import RENDERERS
from services.renderer.renderer import Renderer
from services.rules import RuleSet

ENVOY = "envoy"
_GRACE_S = 10.0


def rules_of(table: dict[str, Any]) -> RuleSet:
    """What a renderer reads, for the routes that need nothing but the key."""
    plain = [route for route in table["routes"] if route.keys() == {"key", "backends"}]
    return RuleSet(endpoints={route["key"]: tuple(each["address"] for each in route["backends"]) for route in plain})


class _Rendered:
    """A proxy that the renderer of its topology configures."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._proxy = RENDERERS[name].proxy()  # before gRPC has threads, as it forks
        self._probed, _ = new_server()
        self._renderer: Renderer | None = None

    async def apply(self, table: dict[str, Any]) -> None:
        """Starts it at the first table."""
        if self._renderer is None:
            probe = f"127.0.0.1:{listen(self._probed, '127.0.0.1:0')}"
            await self._probed.start()
            self._renderer = Renderer(self._proxy, listen=table["address"], node=f"{self._name}/conform", probe=probe)
            await self._renderer.start()
        await self._renderer.put_in_force(rules_of(table))

    async def stop(self, within_s: float) -> None:
        await self._proxy.stop(within_s)
        await self._probed.stop(0)


async def _follow(name: str) -> None:
    proxy = Envoy() if name == ENVOY else _Rendered(name)
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            await proxy.apply(json.loads(line))
        except UnitError as error:
            print(" ".join(str(error).split()), flush=True)  # noqa: T201 (the answer)
        else:
            print("ok", flush=True)  # noqa: T201 (the answer)
    await proxy.stop(_GRACE_S)


if __name__ == "__main__":
    asyncio.run(_follow(sys.argv[1]))
