"""HTTP/2 as raw as it gets: sends what client libraries refuse to, and says what came back, or how it ended."""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self
from urllib.parse import unquote

import grpc
import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
from google.protobuf.message import DecodeError

from lab.identity import folder as folders
from lab.roles import UNIX
from lab.transport.security import Security
from models.proto.ranking.v1 import ranking_pb2

Header = tuple[bytes, bytes]
RANK = "/ranking.v1.Ranking/Rank"
_WITHIN_S = 10.0
_ALERT_WITHIN_S = 3.0
_SENT_WITHIN_S = 60.0
_LAST_WORDS_S = 1.0
_HEADERS, _RST_STREAM, _END_HEADERS = 1, 3, 4  # of RFC 9113


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        status: gRPC's name of it; ``RESET``, ``GOAWAY`` or ``CLOSED`` if there was no answer.
        reason: gRPC's message, or HTTP/2's error code.
        body: without gRPC's prefix.
    """

    status: str
    reason: str
    body: bytes = b""

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}"

    def said(self) -> str:
        """The reason, or who answered."""
        try:
            by = ranking_pb2.RankResponse.FromString(self.body).answered_by
        except DecodeError:
            return self.reason
        return f"answered by {by.model}.{by.version}" if by.model else self.reason


@dataclass(slots=True)
class _Stream:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    answer: Answer | None = None


def tls_context(security: Security | None) -> ssl.SSLContext:
    """For a client that takes any name for an answer: what is asked here is whom the server lets in.

    Args:
        security: whose certificate it shows; None for no certificate.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if security is not None:
        home = Path(security.folder) / folders.CURRENT
        context.load_cert_chain(home / folders.CERTIFICATE, home / folders.KEY)
    return context


def framed(message: bytes, *, compressed: bool = False, length: int | None = None) -> bytes:
    """A gRPC message with its prefix; ``length`` is what the prefix says, if that is not to be true."""
    return struct.pack(">BI", compressed, len(message) if length is None else length) + message


def rpc_headers(path: str = RANK, extra: Iterable[Header] = ()) -> list[Header]:
    """Of a gRPC request."""
    return [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", b"lab"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        *extra,
    ]


def connected(address: str, source: str = "") -> socket.socket:
    """A connection to ``ip:port`` or ``unix:PATH``, from the IP address ``source`` if one is given.

    Raises:
        OSError: it cannot be opened.
    """
    if not address.startswith(UNIX):
        host, port = address.rsplit(":", 1)
        return socket.create_connection((host, int(port)), timeout=_WITHIN_S, source_address=(source, 0))
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_WITHIN_S)
    connection.connect(address.removeprefix(UNIX))
    return connection


def why_no_handshake(address: str, context: ssl.SSLContext, source: str = "") -> str | None:
    """The alert with which a server ends a connection that has said nothing but who it is; None if it does not end it.

    The other side looks at a certificate only when for this side the handshake is over, so the alert has to be waited
    for; whoever writes before it comes gets no more than a closed connection.
    """
    try:
        with (
            connected(address, source) as plain,
            context.wrap_socket(plain, server_hostname="lab.internal") as secured,
        ):
            secured.settimeout(_ALERT_WITHIN_S)
            return None if secured.recv(1) else ""
    except TimeoutError:
        return None  # an Envoy waits for the client's first frame
    except ssl.SSLError as error:
        return error.reason or str(error)


class Wire:
    """One connection.

    Args:
        address: ``ip:port`` or ``unix:PATH``.
        context: of TLS; None for plaintext.
        source: IP address that it comes from; any if empty.

    Raises:
        OSError: it cannot be opened, or TLS ended it; says why.
    """

    def __init__(self, address: str, context: ssl.SSLContext | None = None, source: str = "") -> None:
        plain = connected(address, source)
        self.socket: socket.socket = context.wrap_socket(plain, server_hostname="lab.internal") if context else plain
        # Nothing is made valid, or checked, before it is sent.
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(
                header_encoding=None,
                normalize_outbound_headers=False,
                validate_outbound_headers=False,
                validate_inbound_headers=False,
            )
        )
        # Squeezing headers takes seconds for large ones.
        self._h2.encoder.encode = partial(self._h2.encoder.encode, huffman=False)  # type: ignore[method-assign]
        self._streams: dict[int, _Stream] = {}
        self.end: Answer | None = None
        self._h2.initiate_connection()
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def flush(self) -> None:
        """Sends what is to be sent; if the other side is gone, its last words are what there is to read."""
        try:
            self.socket.sendall(self._h2.data_to_send())
        except OSError:
            while self.end is None:
                self._read()

    def begin(self, headers: Sequence[Header], *, end: bool = False) -> int:
        """Opens a stream; returns its number."""
        number = self._h2.get_next_available_stream_id()
        self._streams[number] = _Stream()
        self._h2.send_headers(number, list(headers), end_stream=end)
        self.flush()
        return number

    def send(self, number: int, data: bytes, *, end: bool = True) -> None:
        """Sends a body, as fast as the other side takes it; stops when the stream has been answered.

        Raises:
            TimeoutError: the other side has not taken it after a minute.
        """
        until = time.monotonic() + _SENT_WITHIN_S
        while data and self._streams[number].answer is None and self.end is None:
            if time.monotonic() > until:
                raise TimeoutError
            room = min(self._h2.local_flow_control_window(number), self._h2.max_outbound_frame_size)
            if not room:
                self._read()
                continue
            self._h2.send_data(number, data[:room], end_stream=end and len(data) <= room)
            data = data[room:]
            self.flush()

    def reset(self, number: int) -> None:
        """Takes a stream back; is not sent before :meth:`flush`."""
        self._h2.reset_stream(number, h2.errors.ErrorCodes.CANCEL)

    def take_back(self, headers: Sequence[Header], times: int) -> None:
        """Opens streams and resets each at once, as fast as the other side takes it, until that ends the connection."""
        self.reset(self.begin(headers))  # from now on, HPACK refers to these headers by their place in its table
        head, first = self._h2.encoder.encode(headers), self._h2.get_next_available_stream_id()
        code = struct.pack(">I", h2.errors.ErrorCodes.CANCEL)
        numbers = range(first, first + 2 * times, 2)
        self._h2.highest_outbound_stream_id = numbers[-1]
        for start in range(0, times, 500):
            frames = [
                _frame(_HEADERS, number, head, flags=_END_HEADERS) + _frame(_RST_STREAM, number, code)
                for number in numbers[start : start + 500]
            ]
            try:
                self.socket.sendall(b"".join(frames))
            except OSError:
                break
        while self.end is None and self._readable():
            self._read()

    def _readable(self) -> bool:
        """Whether there is something to read, or soon will be."""
        return bool(select.select([self.socket], [], [], _LAST_WORDS_S)[0])

    def answer(self, number: int) -> Answer:
        """Of a stream; waits for it."""
        while (found := self._streams[number].answer or self.end) is None:
            self._read()
        return found

    def ask(self, *extra: Header, body: bytes = b"", path: str = RANK) -> Answer:
        """One unary call."""
        number = self.begin(rpc_headers(path, extra))
        self.send(number, framed(body))
        return self.answer(number)

    def _read(self) -> None:
        try:
            data = self.socket.recv(1 << 18)
            events = self._h2.receive_data(data) if data else []
        except TimeoutError:
            raise
        except (OSError, h2.exceptions.ProtocolError) as error:
            self.end = Answer("CLOSED", getattr(error, "reason", None) or str(error))
            return
        if not data:
            self.end = self.end or Answer("CLOSED", "")
            return
        for event in events:
            self._take(event)
        if self.end is None:
            self.flush()

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case (
                h2.events.ResponseReceived(stream_id=number, headers=headers)
                | h2.events.TrailersReceived(stream_id=number, headers=headers)
            ):
                self._streams[number].headers |= dict(headers)
            case h2.events.DataReceived(stream_id=number, data=data):
                self._streams[number].body += data
                self._h2.acknowledge_received_data(event.flow_controlled_length, number)
            case h2.events.StreamEnded(stream_id=number):
                self._streams[number].answer = _answer(self._streams[number])
            case h2.events.StreamReset(stream_id=number, error_code=code):
                stream = self._streams[number]
                stream.answer = _answer(stream) if b"grpc-status" in stream.headers else Answer("RESET", _name(code))
            case h2.events.ConnectionTerminated(error_code=code, additional_data=text):
                said = f"{_name(code)} {(text or b'').decode(errors='replace')}".strip()
                self.end = Answer("GOAWAY", said)


def _frame(kind: int, number: int, payload: bytes, *, flags: int = 0) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, number) + payload


def _answer(stream: _Stream) -> Answer:
    status = stream.headers.get(b"grpc-status")
    if status is None:
        return Answer(f"HTTP {stream.headers.get(b':status', b'?').decode()}", stream.body.decode(errors="replace"))
    names = {each.value[0]: each.name for each in grpc.StatusCode}
    reason = unquote(stream.headers.get(b"grpc-message", b"").decode(errors="replace"))
    return Answer(names[int(status)], reason, stream.body[5:])


def _name(code: object) -> str:
    return getattr(code, "name", str(code))
