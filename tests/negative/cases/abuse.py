"""Too much, too slowly, or more than it looks like."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from functools import cache

from tests.negative.scene import KEY, MODEL, Case, Scene, counted_as, rank
from tests.negative.wire import RANK, Answer, framed, rpc_headers

_DOORS = (("gateway", "gateway-1"), ("mesh", "homepage-sidecar"), ("gateway-header", "central-envoy"))
_ALSO_BARE = (*_DOORS, ("proxyless", MODEL))
_RESETS = 5_000
_UNDERSCORES = "http2.requests_rejected_with_underscores_in_headers"
_RESET_TOO_OFTEN = "http.requests.downstream_cx_protocol_error"
_MOST, _UNPACKED = 64 * 1024 * 1024, 10 * 1024 * 1024


def _padded(size: int) -> bytes:
    """A good request of that many bytes, some millions; nearly all of them in a field that no API has."""
    request, begin = rank(), bytes([15 << 3 | 2])
    padding = size - len(request) - len(begin) - 4
    length = bytes([padding & 127 | 128, padding >> 7 & 127 | 128, padding >> 14 & 127 | 128, padding >> 21])
    return request + begin + length + bytes(padding)


@cache
def _squeezed() -> bytes:
    return gzip.compress(_padded(_UNPACKED), 1)


def _says_it_is_large(unit: str) -> Callable[[Scene], Answer]:
    """By its prefix; nothing of it has to come."""

    def attempt(scene: Scene) -> Answer:
        with scene.connect(unit) as wire:
            stream = wire.begin(rpc_headers(RANK, [KEY]))
            wire.send(stream, framed(b"", length=_MOST + 1), end=False)
            return wire.answer(stream)

    return attempt


def _is_large(unit: str) -> Callable[[Scene], Answer]:
    return lambda scene: scene.ask(unit, KEY, body=_padded(_MOST + 1))


def _grows(unit: str) -> Callable[[Scene], Answer]:
    def attempt(scene: Scene) -> Answer:
        with scene.connect(unit) as wire:
            stream = wire.begin(rpc_headers(RANK, [KEY, (b"grpc-encoding", b"gzip")]))
            wire.send(stream, framed(_squeezed(), compressed=True))
            return wire.answer(stream)

    return attempt


def _has_many_headers(unit: str, size: int) -> Callable[[Scene], Answer]:
    return lambda scene: scene.ask(unit, KEY, *((b"x-%d" % number, b"v" * size) for number in range(200)))


def _has_an_underscore(unit: str) -> Callable[[Scene], Answer]:
    return lambda scene: scene.ask(unit, KEY, (b"x_routing_key", b"search-ranker.v1"))


def _floods_with_resets(unit: str) -> Callable[[Scene], Answer]:
    def attempt(scene: Scene) -> Answer:
        with scene.connect(unit) as wire:
            # Without a key, so that Envoy answers them itself and no model has work with them.
            wire.take_back(rpc_headers(RANK), _RESETS)
            last = wire.end or wire.ask(KEY, body=rank())
            reason = f"{_RESETS} resets, and the next call on the same connection is answered"
            return Answer(last.status, reason) if wire.end is None else Answer("CLOSED", "")

    return attempt


def _dawdles(unit: str) -> Callable[[Scene], Answer]:
    return lambda scene: scene.lorises.end_of(unit)


def _cases() -> list[Case]:
    too_large = r"larger than max \(67108865 vs. 67108864\)"
    cases = []
    for way, unit in _ALSO_BARE:
        exhausted = "RESOURCE_EXHAUSTED"
        cases += [
            Case("a length prefix of 64 MiB and a byte", way, unit, exhausted, too_large, _says_it_is_large(unit)),
            Case("a compressed message", way, unit, "UNIMPLEMENTED", "algorithm 'gzip' is disabled", _grows(unit)),
        ]
    for way, unit in _DOORS[:2]:
        cases.append(
            Case("a message of 64 MiB and a byte", way, unit, "RESOURCE_EXHAUSTED", too_large, _is_large(unit))
        )
    for way, unit in _ALSO_BARE:
        if "sidecar" in unit or "envoy" in unit:
            for attack, status, counter, attempt in (
                ("200 headers", "RESET", "http2.header_overflow", _has_many_headers(unit, 1)),
                ("a header with underscores", "RESET", _UNDERSCORES, _has_an_underscore(unit)),
                ("5,000 resets on one connection", "CLOSED", _RESET_TOO_OFTEN, _floods_with_resets(unit)),
            ):
                cases.append(Case(attack, way, unit, status, counter, counted_as(counter, unit, attempt)))
        else:
            many, exhausted = _has_many_headers(unit, 100), "RESOURCE_EXHAUSTED"
            cases.append(Case("20 KiB of headers", way, unit, exhausted, "bytes of headers", many))
    for way, unit in (*_ALSO_BARE, ("proxyless", "control-plane")):
        status = "RESET" if unit.endswith("sidecar") else "CLOSED"
        cases.append(Case("one byte at a time", way, unit, status, "given up", _dawdles(unit)))
    return cases


ABUSE = tuple(_cases())
