"""Server side of REST: an HTTP/1.1 server beside the gRPC one, in the same event loop.

Until somebody connects there is a listening socket and nothing else: the HTTP library (12 MB a process, in each of a
lab's gateways and replicas) is only then imported, in a thread, while the connection waits.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from lab.errors import UnitError
from lab.transport.channels import MAX_MESSAGE_BYTES
from lab.transport.security import Security

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

_BACKLOG = 1024
# Half a megabyte that comes in pieces of the library's 64 KB would stop and start the connection eight times.
_READ_BUFFER_BYTES = 1024 * 1024
_KEEPALIVE_TIMEOUT_S = 75.0


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What came.

    Attributes:
        target: path and query, as on the wire.
        headers: names in lower case, in order; a header that was sent twice is there twice.
        read: reads the body; raises :class:`TooLargeError`.
        peer: the SPIFFE id that the connection has proved; empty in plaintext, and of a certificate that names none.
    """

    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    read: Callable[[], Awaitable[bytes]]
    peer: str = ""


@dataclass(frozen=True, slots=True)
class HttpReply:
    """What goes back; the body is JSON."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class TooLargeError(Exception):
    """The body is larger than any message may be."""


class RestServer:
    """Answers HTTP requests; the library's part stays in here.

    Args:
        answer: makes the reply; it is cancelled if the client leaves.
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
        """Binds ``host:port`` and returns the port; to be called in the event loop.

        Args:
            address: where.
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
        """From now on every answer is its connection's last, so that clients leave."""
        self._draining = True

    async def drain(self, *, grace_s: float, linger_s: float = 0.25) -> None:
        """Ends as :func:`lab.transport.drain` does: clients are told to leave, then what is in flight may finish."""
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
                    return bytes(await request.read())
                except web.HTTPRequestEntityTooLarge:
                    raise TooLargeError from None

            headers = [(name.lower(), value) for name, value in request.headers.items()]
            peer = spiffe_id(request.get_extra_info("peercert"))
            reply = await self._answer(HttpRequest(request.method, request.path_qs, headers, read, peer))
            told = {"Content-Type": "application/json", "Server": "lab", **reply.headers}
            response = web.Response(body=reply.body, status=reply.status, headers=told)
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
            keepalive_timeout=_KEEPALIVE_TIMEOUT_S,
            read_bufsize=_READ_BUFFER_BYTES,
        )
        self._server = await loop.create_server(self._http, sock=listener, ssl=context)


def _import_library() -> tuple[Any, Any]:
    from aiohttp import http, web  # noqa: PLC0415 (see above)

    return web, http


def _tls(security: Security) -> tuple[Any, Callable[[Any], str]]:
    """What to serve with, and who it is that comes; not imported where there are no certificates."""
    if not security.is_mtls:
        return None, lambda _: ""
    from lab.transport.tls import server_context, spiffe_id  # noqa: PLC0415 (see above)

    return server_context(security), spiffe_id
