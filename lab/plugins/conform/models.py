"""Models that answer by a script of the check, and note what they receive."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2_grpc

from lab.errors import UnitError

if TYPE_CHECKING:
    from lab.plugins.conform.forms import ByHeader

ID_BYTES = 16
"""Each request begins with an id, by which the model finds its script."""
_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_metadata_size", 1 << 20),
    ("grpc.absolute_max_metadata_size", 1 << 20),
    ("grpc.max_concurrent_streams", 4096),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),
)

Context = Any
"""gRPC's context of a request; its type has no parameters at run time."""


@dataclass(frozen=True, slots=True)
class Received:
    """A request as a model got it.

    Attributes:
        metadata: names and values.
        body: first message as it came.
        payload: what the check sent in it, without the id.
        more: the messages after it.
        context: gRPC's.
        at: when the first message was complete, on the monotonic clock, seconds.
    """

    model: str
    method: str
    metadata: tuple[tuple[str, str | bytes], ...]
    body: bytes
    payload: bytes
    more: AsyncIterator[bytes]
    context: Context
    at: float

    def values(self, name: str) -> list[str | bytes]:
        """All values of a header."""
        return [value for each, value in self.metadata if each == name]


Script = Callable[[Received], AsyncIterator[bytes]]
"""Yields the messages of an answer."""


async def by_default(received: Received) -> AsyncIterator[bytes]:
    """Answers once: who it is, and a digest of what it got."""
    yield signed(received)


def signed(received: Received) -> bytes:
    """The message that says who answers what."""
    return received.model.encode() + b"\n" + sha256(received.payload).digest()


class Model:
    """A server on its own port, which it keeps when it is stopped and started again.

    Attributes:
        address: ``ip:port``.
        scripts: by the id of a request; shared with other models, as a copy has the id of its original.
        received: all requests of which the first message arrived: id → what arrived, in order.
    """

    def __init__(self, name: str, host: str, port: int, scripts: dict[bytes, Script], form: ByHeader) -> None:
        self.name, self.scripts, self._form = name, scripts, form
        self.address = f"{host}:{port}"
        self.received: dict[bytes, list[Received]] = {}
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Starts it, if it does not run.

        Raises:
            UnitError: its port is in use.
        """
        if self._server is not None:
            return
        host, _, wanted = self.address.rpartition(":")
        with socket.socket() as probe:  # gRPC says the same in several lines of its own
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, int(wanted)))
            except OSError as error:
                raise UnitError(f"{self.address}: {error.strerror}, so no model can listen; see --first-port") from None
        server = grpc.aio.server(options=_OPTIONS)
        # Of proxies that ask; every other method is the checks'.
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
        server.add_generic_rpc_handlers((_AnyMethod(self._serve, self._form.answered),))
        self.address = f"{host}:{server.add_insecure_port(self.address)}"
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Ends it with all its connections, as a crash would."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(None)

    async def _serve(self, method: str, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        body = await anext(aiter(requests), b"")
        first = self._form.message(body)
        sent_by, payload = first[:ID_BYTES], first[ID_BYTES:]
        metadata = tuple((str(name), value) for name, value in context.invocation_metadata())
        received = Received(self.name, method, metadata, body, payload, requests, context, time.monotonic())
        self.received.setdefault(sent_by, []).append(received)
        async for message in self.scripts.get(sent_by, by_default)(received):
            yield message


class _AnyMethod(grpc.GenericRpcHandler):
    """Serves every method in the same way, as streams of bytes in both directions."""

    def __init__(
        self,
        serve: Callable[[str, AsyncIterator[bytes], Context], AsyncIterator[bytes]],
        answered: Callable[[bytes], bytes],
    ) -> None:
        self._serve, self._answered = serve, answered

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return grpc.stream_stream_rpc_method_handler(
            partial(self._serve, handler_call_details.method), response_serializer=self._answered
        )
