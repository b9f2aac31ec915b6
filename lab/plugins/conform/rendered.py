"""A proxy on the address under test, in a process that configures it by tables of routes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from typing import Any

from lab import PYTHON
from lab.errors import UnitError
from lab.plugins.conform.table import CONDITIONS, METHOD, SHADOW, STICKY, WEIGHTS

_KEY_ALONE = "the lab's renderer routes on the key alone"
_BY_CALLER = f"{_KEY_ALONE}; callers do that in its topology"
CANNOT = {WEIGHTS: _BY_CALLER, STICKY: _BY_CALLER, SHADOW: _BY_CALLER, METHOD: _KEY_ALONE, CONDITIONS: _KEY_ALONE}
"""What no :class:`~services.renderer.proxy.ProxyRenderer` configures, with the reason."""
_WITHIN_S = 15.0


class RenderedProxy:
    """One proxy, in its own process: see :mod:`lab.plugins.conform.controls._by_table`.

    Args:
        proxy: name of its renderer, or ``envoy``.
    """

    def __init__(self, proxy: str) -> None:
        self._proxy = proxy
        self._process: Process | None = None

    async def apply(self, table: Mapping[str, Any]) -> None:
        """Starts it at the first table."""
        if self._process is None:
            argv = (*PYTHON, "-m", "lab.plugins.conform.controls._by_table", self._proxy)
            self._process = await asyncio.create_subprocess_exec(
                *argv, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True
            )
        assert self._process.stdin is not None  # noqa: S101 (it is a pipe)
        assert self._process.stdout is not None  # noqa: S101 (likewise)
        self._process.stdin.write(json.dumps(table).encode() + b"\n")
        answer = (await self._process.stdout.readline()).decode().strip()
        if answer != "ok":
            raise UnitError(f"control {self._proxy}: {answer or 'its process has ended'}")

    async def drain(self) -> None:
        """Ends it as its requests do."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()

    async def close(self) -> None:
        """Ends it."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None  # noqa: S101 (it is a pipe)
        process.stdin.close()
        try:
            async with asyncio.timeout(_WITHIN_S):
                await process.wait()
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
