"""Third-party proxies, which a machine may lack (``make proxies`` installs them), with their renderers."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from lab.topologies import TOPOLOGIES
from services.renderer.proxy import RENDERERS, rendered_topologies
from tests.missing import missing
from tests.ports import free_port

GATEWAYS = {name: renderer.name for name, renderer in rendered_topologies().items()}
"""Topology → role of its proxy."""


def that_run_here(topologies: Iterable[str]) -> list[str]:
    """The topologies that carry every API, and whose proxy this machine has; with ``CI`` set nothing may be missing."""
    everything = bool(os.environ.get("CI"))
    return [
        each
        for each in topologies
        if not TOPOLOGIES[each].carries and (everything or each not in GATEWAYS or RENDERERS[GATEWAYS[each]].installed)
    ]


def need(topology: str) -> None:
    """Skips a test of a topology whose proxy this machine lacks."""
    if not that_run_here([topology]):
        missing(f"{GATEWAYS[topology]} is not installed: make proxies")


@asynccontextmanager
async def proxy_up(topology: str, control_plane: str) -> AsyncIterator[str]:
    """The address of a proxy, which serves once its renderer has followed the control plane; in plaintext."""
    need(topology)
    role = GATEWAYS[topology]
    address = f"127.0.0.1:{free_port()}"
    options = {"proxy": role, "name": role, "role": role, "listen": address, "control-plane": control_plane}
    argv = [text for name, value in options.items() for text in (f"--{name}", value)]
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.renderer", *argv)
    try:
        yield address
    finally:
        process.terminate()
        assert await process.wait() == 0
