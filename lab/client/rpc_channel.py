"""A gRPC channel to models with its RPCs, each created once, and the status of an RPC that failed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from lab.errors import UnitError
from lab.transport import Security, answer_of, items_of, open_channel

if TYPE_CHECKING:
    from models.apis import Method

    Metadata = tuple[tuple[str, str | bytes], ...]

_log = logging.getLogger(__name__)


class RpcChannel:
    """Channel to one or several addresses. Requests are sent as bytes; answers are parsed unless asked for as bytes.

    Args:
        addresses: one ``host:port``, or several ``ip:port`` to take in turn.
        security: credentials; this process's own by default.
        peer: role, or ``role/name``, that the other end must prove, where it can.
        watches_health: see :func:`lab.transport.open_channel`.
        balancing: likewise.
        channel: a gRPC channel that is open already; ``addresses`` then only names it in messages.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        security: Security | None = None,
        *,
        peer: str = "",
        watches_health: bool = True,
        balancing: Mapping[str, Any] | None = None,
        channel: grpc.aio.Channel | None = None,
    ) -> None:
        self._addresses = tuple(addresses)
        self._channel = channel or open_channel(
            *addresses,
            security=security,
            peer=peer,
            carries_requests=True,
            watches_health=watches_health,
            balancing=balancing,
        )
        self._rpcs: dict[tuple[str, bool], Any] = {}

    def rpc(self, method: Method, *, parsed: bool = True) -> Any:
        """The RPC of a method: a unary, or a server-streaming multi-callable of gRPC."""
        rpc = self._rpcs.get((method.path, parsed))
        if rpc is None:
            make = self._channel.unary_stream if method.streaming else self._channel.unary_unary
            rpc = make(method.path, response_deserializer=method.response_class.FromString if parsed else None)
            self._rpcs[method.path, parsed] = rpc
        return rpc

    def raw_stream(self, path: str) -> grpc.aio.UnaryStreamMultiCallable[bytes, bytes]:
        """A server-streaming RPC by its path, whose messages are bytes."""
        return self._channel.unary_stream(path)

    def raw(self, path: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
        """The unary RPC at this path, whose messages stay bytes."""
        rpc: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(path)
        return rpc

    @property
    def reachable(self) -> bool:
        """Whether the last attempt to connect has not failed."""
        return self._channel.get_state() is not grpc.ChannelConnectivity.TRANSIENT_FAILURE

    async def send_and_discard(self, method: Method, payload: bytes, *, timeout_s: float, metadata: Metadata) -> None:
        """Sends a request and reads its answer, or stream of answers, without parsing it.

        Raises:
            grpc.aio.AioRpcError: it failed.
        """
        call = self.rpc(method, parsed=False)(payload, timeout=timeout_s, metadata=metadata)
        if method.streaming:
            async for _ in items_of(call, timeout_s):
                pass
        else:
            await answer_of(call, timeout_s)

    async def ready(self, timeout_s: float) -> None:
        """Returns once a request could be sent.

        Raises:
            UnitError: none of the addresses can be reached in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._connected()
        except TimeoutError:
            raise UnitError(f"{', '.join(self._addresses)}: not reached within {timeout_s:g} s") from None

    async def _connected(self) -> None:
        """Returns once the channel is connected, or idle and resolved: a ring of hashes connects when it is to pick."""
        now = self._channel.get_state(try_to_connect=True)
        while now is not grpc.ChannelConnectivity.READY:
            before = now
            await self._channel.wait_for_state_change(before)
            now = self._channel.get_state(try_to_connect=True)
            if now is grpc.ChannelConnectivity.IDLE and before is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                return

    async def try_connect(self, timeout_s: float) -> None:
        """As :meth:`ready`, but only logs a failure: gRPC goes on trying, and a request reports the reason."""
        try:
            await self.ready(timeout_s)
        except UnitError as error:
            _log.warning("%s", error)

    async def close(self, grace_s: float | None = None) -> None:
        """Closes the channel; calls in flight may finish within ``grace_s`` seconds."""
        await self._channel.close(grace_s)


# From gRPC's own xDS client (`proxyless`), about a cluster without endpoints.
_NO_ENDPOINTS = "contains no localities"
# From the same, about a request that a cluster's circuit breaker rejects.
_FULL = "circuit breaker drop"


def explained(
    error: grpc.aio.AioRpcError, *, use_case: str, routing_key: str, timeout_s: float
) -> tuple[grpc.StatusCode, str]:
    """Status and message of a failed call; adds use case and routing key to a message that names neither."""
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.CANCELLED:
        # This side did not cancel it, as that raises CancelledError: a stopping server drops its queue.
        code, details = grpc.StatusCode.UNAVAILABLE, f"dropped by a server that stops ({details})"
    if code is grpc.StatusCode.UNAVAILABLE and _FULL in details:
        code = grpc.StatusCode.RESOURCE_EXHAUSTED
    if use_case in details:
        return code, details
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        # Envoy and gRPC have different messages for it.
        details = f"no answer within {timeout_s * 1000:.0f} ms"
    elif _NO_ENDPOINTS in details:
        details = "no healthy replica"
    elif routing_key and routing_key in details:
        return code, details
    subject = f"{use_case} ({routing_key})" if routing_key else use_case
    return code, f"{subject}: {details or code.name}"
