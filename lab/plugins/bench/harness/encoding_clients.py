"""Clients of one model by either encoding; a request and its answer are plain values.

JSON is no straw man: orjson writes float32 arrays with the shortest digits, connections are reused, and
:class:`JsonClient` implements no more of HTTP than it needs; gRPC's library does more, and costs more. What it has in
common with :class:`LibraryJsonClient`, which people use instead, is due to the encoding; the rest to the library.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
import orjson

from lab.errors import UnitError
from lab.transport import open_channel
from models.apis import APIS
from models.rest import resource_path

if TYPE_CHECKING:
    import grpc.aio

_API = APIS["ranking.v1"]
_OK = b"HTTP/1.1 200 "
_END_OF_HEAD, _LENGTH = b"\r\n\r\n", b"content-length:"


class EncodingClient(Protocol):
    """Requests rankings; used by one event loop.

    Attributes:
        request_bytes: length of the latest encoded request, without the protocol's overhead.
    """

    request_bytes: int

    async def ask(self, lane: int) -> Any:
        """Sends one request and returns its parsed answer; a lane carries one request at a time."""

    async def close(self) -> None:
        """Closes all connections."""


class GrpcClient:
    """gRPC and protobuf: all lanes share one HTTP/2 connection."""

    def __init__(self, address: str, build: Callable[[], Any]) -> None:
        self.request_bytes = 0
        self._build = build
        self._channel = open_channel(address)
        self._call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(_API.unary.path)

    async def ask(self, lane: int) -> Any:
        """See :class:`EncodingClient`."""
        del lane
        payload = self._build().SerializeToString()
        self.request_bytes = len(payload)
        return _API.unary.response_class.FromString(await self._call(payload))

    async def close(self) -> None:
        """See :class:`EncodingClient`."""
        await self._channel.close()


class JsonClient:
    """REST and JSON: a lane is a persistent HTTP/1.1 connection."""

    def __init__(self, address: str, document: Any) -> None:
        self.request_bytes = 0
        self._host, port = address.rsplit(":", 1)
        self._port = int(port)
        self._document = document
        self._head = (
            f"POST {resource_path(_API)} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
            "Content-Length: "
        ).encode()
        self._lanes: dict[int, _Connection] = {}

    async def ask(self, lane: int) -> Any:
        """See :class:`EncodingClient`."""
        connection = self._lanes.get(lane)
        if connection is None:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(_Connection, self._host, self._port)
            self._lanes[lane] = connection
        body = orjson.dumps(self._document, option=orjson.OPT_SERIALIZE_NUMPY)
        self.request_bytes = len(body)
        return orjson.loads(await connection.exchange(b"%b%d\r\n\r\n%b" % (self._head, len(body), body)))

    async def close(self) -> None:
        """See :class:`EncodingClient`."""
        for connection in self._lanes.values():
            connection.close()


class LibraryJsonClient:
    """REST and JSON by aiohttp, with its connection pool."""

    def __init__(self, address: str, document: Any) -> None:
        self.request_bytes = 0
        self._document = document
        self._session = aiohttp.ClientSession(f"http://{address}", headers={"Content-Type": "application/json"})

    async def ask(self, lane: int) -> Any:
        """See :class:`EncodingClient`."""
        del lane
        body = orjson.dumps(self._document, option=orjson.OPT_SERIALIZE_NUMPY)
        self.request_bytes = len(body)
        async with self._session.post(resource_path(_API), data=body) as response:
            answer = await response.read()
        if response.status != HTTPStatus.OK:
            raise UnitError(f"the model refuses a request by REST: {answer.decode()}")
        return orjson.loads(answer)

    async def close(self) -> None:
        """See :class:`EncodingClient`."""
        await self._session.close()


class _Connection(asyncio.Protocol):
    """Writes a request, and waits for an answer with a Content-Length."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[bytes]
        self._transport: asyncio.Transport
        self._received = bytearray()
        self._begins = self._ends = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def exchange(self, request: bytes) -> asyncio.Future[bytes]:
        """Returns the body of the answer."""
        self._answer = asyncio.get_running_loop().create_future()
        self._received.clear()
        self._ends = 0
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._ends and (head := self._received.find(_END_OF_HEAD)) >= 0:
            headers = bytes(self._received[:head]).lower()
            length = int(headers.partition(_LENGTH)[2].partition(b"\r\n")[0])
            self._begins, self._ends = head + len(_END_OF_HEAD), head + len(_END_OF_HEAD) + length
        if self._ends and len(self._received) >= self._ends and not self._answer.done():
            body = bytes(self._received[self._begins : self._ends])
            if self._received.startswith(_OK):
                self._answer.set_result(body)
            else:
                self._answer.set_exception(UnitError(f"the model refuses a request by REST: {body.decode()}"))

    def connection_lost(self, error: Exception | None) -> None:
        if not self._answer.done():
            self._answer.set_exception(UnitError(f"the model closed a connection: {error}"))

    def close(self) -> None:
        self._transport.close()
