"""What differs between topologies on the caller's side."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from lab.client.endpoints import Endpoints
from lab.transport import Security

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.client.rpc_channel import Metadata, RpcChannel
    from lab.routing.attempts import Decision, RequestAttempts
    from models.apis import InferenceRequest


class Strategy(Protocol):
    """Decides where each request goes, and in what form: two methods, and a beginning and an end."""

    async def decide(self, attempts: RequestAttempts, context: Mapping[str, str]) -> tuple[RpcChannel, Decision]:
        """The channel to send over and the decision to follow; called again after a tear, with ``attempts.torn``.

        Raises:
            CallError: the request is refused, or no decision can be had.
        """

    def encode(self, request: InferenceRequest, context: Mapping[str, str]) -> tuple[bytes, Metadata]:
        """The body, and headers beside it, of a request whose envelope is filled; see :mod:`lab.client.encoding`."""

    async def ready(self, timeout_s: float) -> None:
        """Returns once requests can be sent.

        Raises:
            UnitError: a unit that the strategy needs cannot be reached in time.
        """

    async def close(self) -> None:
        """Closes all connections."""


StrategyFactory = Callable[[str, Endpoints, Security | None], Strategy]
"""Makes a topology's strategy from the caller's name, the addresses, and credentials (None: this process's own)."""
