"""Asks the resolver on every call, and sends to a proxy that routes on the header."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lab.client.encoding import whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.client.encoding import Encode
    from lab.client.resolver import ResolverClient
    from lab.client.rpc_channel import RpcChannel
    from lab.routing.attempts import Decision, RequestAttempts


class Unleased:
    """Resolves each request by itself.

    Args:
        resolver: decides.
        channel: to a proxy, or a gRPC library, that routes on the header.
        encode: form of the requests.
    """

    def __init__(self, resolver: ResolverClient, channel: RpcChannel, *, encode: Encode = whole) -> None:
        self.resolver, self.channel, self.encode = resolver, channel, encode

    async def decide(self, attempts: RequestAttempts, context: Mapping[str, str]) -> tuple[RpcChannel, Decision]:
        """The one channel, and the resolver's decision."""
        return self.channel, await self.resolver.resolve(attempts, context)

    async def ready(self, timeout_s: float) -> None:
        """Returns once the channel is connected."""
        await self.channel.ready(timeout_s)

    async def close(self) -> None:
        """Closes the channels to models and resolver."""
        await asyncio.gather(self.channel.close(), self.resolver.close())
