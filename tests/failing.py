"""The moment at which a server sends a failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc


class AtAbort:
    """An RPC's context. Details of a failure that it sends are what ``say`` returns just before.

    Args:
        context: the RPC's own.
        say: what is known by then.
    """

    def __init__(self, context: Any, say: Callable[[], str]) -> None:
        self._context, self._say = context, say

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def abort(self, code: grpc.StatusCode, _: str = "", trailing_metadata: Any = ()) -> None:
        """Sends the failure."""
        await self._context.abort(code, self._say(), trailing_metadata)
