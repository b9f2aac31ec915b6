"""Sends everything to a gateway, which decides and reports its decision beside the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.client.encoding import whole
from lab.client.rpc_channel import RpcChannel
from lab.routing.attempts import Decision, Target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.client.encoding import Encode
    from lab.routing.attempts import RequestAttempts
    from lab.transport import Security

# The gateway applies the use case's own timeout; this one is for a gateway that never answers.
_TIMEOUT_S = 15.0


class Gateway:
    """Sends to gateway replicas in turn.

    Args:
        addresses: one ``host:port``, or several ``ip:port``.
        security: credentials; this process's own by default.
        encode: form of the requests.
    """

    def __init__(self, addresses: Sequence[str], security: Security | None = None, *, encode: Encode = whole) -> None:
        self.encode = encode
        self._channel = RpcChannel(addresses, security, peer="gateway")
        self._found = self._channel, Decision(targets=(Target(),), timeout_s=_TIMEOUT_S)

    async def decide(self, attempts: RequestAttempts, context: Mapping[str, str]) -> tuple[RpcChannel, Decision]:
        """The gateways' channel, and a decision that leaves everything to them."""
        del attempts, context
        return self._found

    async def ready(self, timeout_s: float) -> None:
        """Returns once a gateway is connected."""
        await self._channel.ready(timeout_s)

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()
