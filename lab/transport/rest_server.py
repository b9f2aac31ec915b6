"""An HTTP/1.1 server for REST, in the same event loop as the gRPC server.

The HTTP library takes 12 MB in each gateway and replica, so it is imported with the first connection, in a thread,
while the connection waits. Before that there is a listening socket only.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from lab.errors import UnitError
from lab.transport.channels import MAX_MESSAGE_BYTES
from lab.transport.memory_guard import expect_growth
from lab.transport.security import Security

_BACKLOG = 1024
# With the library's 64 KB, a body of half a megabyte would pause and resume the connection eight times.
_READ_BUFFER_BYTES = 1024 * 1024
_KEEPALIVE_TIMEOUT_S = 75.0
# The library logs a traceback for each request that is not HTTP; what the answer raises is caught before.
_SILENT = logging.getLogger(f"{__name__}.library")
_SILENT.disabled = True


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A received request.

    Attributes:
        target: path and query, undecoded.
        headers: names in lower case, in order; a header that was sent twice is there twice.
        read: reads the body; raises :class:`TooLargeError`.
        peer: SPIFFE id that the connection proves; empty in plaintext, and if the certificate has none.
    """

    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    read: Callable[[], Awaitable[bytes]]
    peer: str = ""


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A reply; its body is JSON.

    Attributes:
        events: server-sent events, in place of the body; None for none.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    events: AsyncGenerator[bytes] | None = None


class TooLargeError(Exception):
    """The body is larger than the limit for messages."""


class RestServer:
    """Answers HTTP requests; hides the HTTP library.

    Args:
        answer: makes the reply; it is cancelled if the client disconnects.
    """

    def __init__(self, answer: Callable[[HttpRequest], Awaitable[HttpReply]]) -> None:
        self._answer = answer
        self._socket: socket.socket | None = None
        self._opening: asyncio.Task[None] | None = None
        self._server: asyncio.Server | None = None
        self._http: Any = None
        self._draining = False
        self._security = Security()

    def listen(self, address: str, security: Security | None = None) -> int:
        """Binds ``host:port`` and returns the port; called in the event loop.

        Args:
            address: ``host:port``.
            security: credentials; this process's own by default.

        Raises:
            UnitError: the address cannot be bound.
        """
        self._security = security or Security.of_this_process()
        host, port = address.rsplit(":", 1)
        listener = socket.socket()
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, int(port)))
        except OSError as error:
            listener.close()
            raise UnitError(f"cannot listen on {address}: is the port taken?") from error
        listener.listen(_BACKLOG)
        listener.setblocking(False)  # noqa: FBT003 (the standard library's)
        self._socket = listener
        asyncio.get_running_loop().add_reader(listener, self._on_first_connection, listener)
        return int(listener.getsockname()[1])

    def start_draining(self) -> None:
        """Closes each connection after its next answer, so that clients leave."""
        self._draining = True

    async def drain(self, *, grace_s: float, linger_s: float = 0.25) -> None:
        """Ends as :func:`lab.transport.drain` does: clients leave, then requests in flight may finish."""
        self.start_draining()
        await asyncio.sleep(linger_s)
        await self.close(grace_s)

    async def close(self, grace_s: float = 0.0) -> None:
        """Takes no more connections; requests in flight may finish within ``grace_s`` seconds."""
        self.start_draining()
        if self._opening is not None:
            await self._opening
        if self._server is not None:
            self._server.close()
            self._http.pre_shutdown()
            await self._http.shutdown(grace_s)
        elif self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
        if self._socket is not None:
            self._socket.close()

    def _on_first_connection(self, listener: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(listener)
        self._opening = asyncio.create_task(self._open(listener))

    async def _open(self, listener: socket.socket) -> None:
        web, http = await asyncio.to_thread(_import_library)
        context, spiffe_id = await asyncio.to_thread(_tls, self._security)
        loop = asyncio.get_running_loop()

        async def handle(request: Any) -> Any:
            async def read() -> bytes:
                if (request.content_length or 0) > MAX_MESSAGE_BYTES:
                    raise TooLargeError
                expects = request.headers.get("Expect", "").lower()
                if expects == "100-continue" and request.version >= http.HttpVersion11:
                    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                    request.writer.output_size = 0
                try:
                    body = bytes(await request.read())
                except web.HTTPRequestEntityTooLarge:
                    raise TooLargeError from None
                expect_growth(len(body))
                return body

            headers = [(name.lower(), value) for name, value in request.headers.items()]
            peer = spiffe_id(request.get_extra_info("peercert"))
            reply = await self._answer(HttpRequest(request.method, request.path_qs, headers, read, peer))
            reply_headers = {"Content-Type": "application/json", "Server": "lab", **reply.headers}
            if reply.events is not None:
                return await _streamed(web, request, reply.events, reply_headers, closes=self._draining)
            response = web.Response(body=reply.body, status=reply.status, headers=reply_headers)
            if self._draining or reply.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                response.force_close()
            return response

        def with_limit(*arguments: Any) -> Any:
            return web.BaseRequest(*arguments, loop, client_max_size=MAX_MESSAGE_BYTES)

        self._http = web.Server(
            handle,
            request_factory=with_limit,
            handler_cancellation=True,
            access_log=None,
            logger=_SILENT,
            keepalive_timeout=_KEEPALIVE_TIMEOUT_S,
            read_bufsize=_READ_BUFFER_BYTES,
            auto_decompress=False,  # a small body may inflate to gigabytes
        )
        self._server = await loop.create_server(self._http, sock=listener, ssl=context)


async def _streamed(
    web: Any, request: Any, events: AsyncGenerator[bytes], headers: Mapping[str, str], *, closes: bool
) -> Any:
    """Sends events as they come; returns the response that had them."""
    async with aclosing(events):
        response = web.StreamResponse(headers={**headers, "Content-Type": "text/event-stream"})
        if closes:
            response.force_close()
        await response.prepare(request)
        async for event in events:
            await response.write(event)
        await response.write_eof()
    return response


def _import_library() -> tuple[Any, Any]:
    from aiohttp import http, web  # noqa: PLC0415 (see above)

    return web, http


def _tls(security: Security) -> tuple[Any, Callable[[Any], str]]:
    """The TLS context, and a reader of peers' SPIFFE ids; imports no TLS in plaintext."""
    if not security.is_mtls:
        return None, lambda _: ""
    from lab.transport.tls import server_context, spiffe_id  # noqa: PLC0415 (see above)

    return server_context(security), spiffe_id
