"""The ring of hashes of Envoy (ring_hash_lb.cc) and gRPC (ring_hash.cc), computed a second time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection
from functools import lru_cache
from math import ceil

RING_SIZE = 1_024
_P1, _P2, _P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P4, _P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
_MASK = (1 << 64) - 1
_STRIPE, _LANE, _HALF = 32, 8, 4


def _rotated(value: int, bits: int) -> int:
    value &= _MASK
    return (value << bits | value >> 64 - bits) & _MASK


def _round(lane: int, word: int) -> int:
    return _rotated(lane + word * _P2, 31) * _P1 & _MASK


def xxh64(content: bytes) -> int:
    """XXH64 with seed 0, by its specification (github.com/Cyan4973/xxHash, doc/xxhash_spec.md)."""
    place, size, total = 0, len(content), _P5
    if size >= _STRIPE:
        lanes = [_P1 + _P2, _P2, 0, -_P1]
        while place + _STRIPE <= size:
            words = (content[place + 8 * each : place + 8 * each + 8] for each in range(4))
            lanes = [_round(lane, int.from_bytes(word, "little")) for lane, word in zip(lanes, words, strict=True)]
            place += _STRIPE
        total = sum(_rotated(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True))
        for lane in lanes:
            total = (total ^ _round(0, lane)) * _P1 + _P4 & _MASK
    total = total + size & _MASK
    while place + _LANE <= size:
        total = _rotated(total ^ _round(0, int.from_bytes(content[place : place + _LANE], "little")), 27) * _P1 + _P4
        place += _LANE
    if place + _HALF <= size:
        total = _rotated(total ^ int.from_bytes(content[place : place + _HALF], "little") * _P1, 23) * _P2 + _P3
        place += _HALF
    for byte in content[place:]:
        total = _rotated(total ^ byte * _P5, 11) * _P1
    total &= _MASK
    total = (total ^ total >> 33) * _P2 & _MASK
    total = (total ^ total >> 29) * _P3 & _MASK
    return total ^ total >> 32


@lru_cache(maxsize=256)
def _ring(addresses: tuple[str, ...]) -> tuple[list[int], list[str]]:
    each = ceil(RING_SIZE / len(addresses))
    points = sorted((xxh64(f"{address}_{number}".encode()), address) for address in addresses for number in range(each))
    return [point for point, _ in points], [address for _, address in points]


def on_ring(value: str, addresses: Collection[str]) -> str:
    """The address, of one or more with equal weights, that gets requests whose header has this value."""
    points, owners = _ring(tuple(sorted(addresses)))
    return owners[bisect_left(points, xxh64(value.encode())) % len(owners)]
