"""Asks a resolver where requests go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import grpc.aio

from lab.client.decisions import DecisionReader
from lab.errors import CallError, ResolverUnreachableError
from lab.routing.headers import REQUEST_ID
from lab.transport import open_channel
from models.context import write_context
from models.proto.control.v1 import resolver_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.client.decisions import ResolvedDecision
    from lab.routing.attempts import RequestAttempts
    from lab.transport import Security

RESOLVE_TIMEOUT_S = 1.0
_RESOLVE = "/control.v1.Resolver/Resolve"

# These are the resolver's answers; every other status says that it could not give one.
_REFUSALS = frozenset({grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT})


class ResolverClient:
    """Resolves in one caller's name.

    Args:
        caller: its name.
        address: ``host:port`` of the resolver.
        security: credentials; this process's own by default.
        through_envoy: whether requests pass an Envoy, see :class:`lab.client.decisions.DecisionReader`.

    Attributes:
        channel: to the resolver.
    """

    def __init__(
        self, caller: str, address: str, security: Security | None = None, *, through_envoy: bool = True
    ) -> None:
        self.channel = open_channel(address, security=security, peer="resolver", keepalive=True)
        self._caller, self._address = caller, address
        self._rpc: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(_RESOLVE)
        self._reader = DecisionReader(through_envoy=through_envoy)

    async def resolve(
        self, attempts: RequestAttempts, context: Mapping[str, str], timeout_s: float = RESOLVE_TIMEOUT_S
    ) -> ResolvedDecision:
        """The resolver's decision for a request.

        Raises:
            ResolverUnreachableError: it gives none in time.
            CallError: it refuses the request, or the context is not valid.
        """
        use_case, metadata = attempts.use_case, ((REQUEST_ID, attempts.request_id),)
        request = resolver_pb2.ResolveRequest(use_case=use_case)
        try:
            write_context(request.context, context)
        except (TypeError, ValueError) as error:
            raise CallError(grpc.StatusCode.INVALID_ARGUMENT, f"{use_case}: {error}") from None
        request.context.caller = self._caller
        try:
            rpc = self._rpc(request.SerializeToString(), timeout=timeout_s, metadata=metadata)
            return self._reader.read(await rpc)
        except grpc.aio.AioRpcError as error:
            details = error.details() or error.code().name
            if error.code() in _REFUSALS:
                raise CallError(error.code(), details) from None
            message = f"{use_case}: no decision from the resolver at {self._address}: {details}"
            raise ResolverUnreachableError(grpc.StatusCode.UNAVAILABLE, message) from None

    async def close(self) -> None:
        """Closes the channel."""
        await self.channel.close(None)
