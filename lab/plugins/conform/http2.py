"""A connection of HTTP/2 without any stream: shows how a server ends connections, which gRPC's library hides.

Frames: RFC 9113, section 4.1.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from lab.errors import UnitError

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD = 9
_SETTINGS, _PING, _GOAWAY = 4, 6, 7
_ACK = 1
_MAX_FRAME = 1 << 20


class Frame(NamedTuple):
    """One frame; see RFC 9113."""

    kind: int
    flags: int
    body: bytes


class Connection:
    """A connection whose settings both sides have exchanged; see :meth:`begun`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def begun(cls, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Connection:
        """Begins HTTP/2 on a new connection.

        Raises:
            UnitError: the other side speaks something else.
            EOFError: it closes the connection.
        """
        connection = cls(reader, writer)
        connection._send(_SETTINGS, 0, b"", begin=_PREFACE)
        first = await connection._next()
        if first.kind != _SETTINGS:
            raise UnitError("answers, but not by HTTP/2: is it a gRPC port?")
        connection._send(_SETTINGS, _ACK, b"")
        return connection

    async def end(self) -> bool:
        """Waits until the other side ends this connection; whether it announced that by GOAWAY.

        Answers its pings meanwhile, as a client that drains politely does.
        """
        announced = False
        try:
            while True:
                kind, flags, body = await self._next()
                if kind == _GOAWAY:
                    announced = True
                    self.close()  # a client without streams in flight has nothing to wait for
                elif kind == _PING and not flags & _ACK:
                    self._send(_PING, _ACK, body)
        except (EOFError, OSError, UnitError):
            return announced

    def close(self) -> None:
        """Closes it."""
        self._writer.close()

    def _send(self, kind: int, flags: int, body: bytes, begin: bytes = b"") -> None:
        self._writer.write(begin + len(body).to_bytes(3, "big") + bytes((kind, flags)) + bytes(4) + body)

    async def _next(self) -> Frame:
        head = await self._reader.readexactly(_HEAD)
        size = int.from_bytes(head[:3], "big")
        if size > _MAX_FRAME:
            raise UnitError("answers, but not by HTTP/2: is it a gRPC port, and does it speak TLS (--ca)?")
        return Frame(head[3], head[4], await self._reader.readexactly(size))
