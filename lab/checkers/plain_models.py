"""What the stub models compute, written a second time: scores, and receipts of what they received.

Like ``lab.checkers.plain`` it shares no code with its subject, ``models.scoring`` and ``models.stub.receipts``: a
mistake there must not excuse itself.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

PARTS = ("context", "config", "payload")
"""Parts of a receipt, in their order."""

_HEX = 16
_CONTEXT = ("user_id", "device", "country", "segment", "surface", "caller", "tenant", "override", "traffic_origin")
TITLES = tuple(f"t{number:02d}" for number in range(10))
"""Ids of the titles in a request of the driver."""

PAYMENT = "p01"
"""Id of the payment in a request of the driver."""

TOKENS = tuple(f"g{number:02d}" for number in range(16))
"""Ids of the tokens that a request of the driver asks for."""

ASKED: Mapping[str, tuple[str, ...]] = {"ranking.v1": TITLES, "fraud.v1": (PAYMENT,), "generate.v1": TOKENS}
"""Ids of the items that a request of the driver asks about, by its API."""

_TITLES = len(TITLES)


def score_of(model: str, version: str, user_id: str, item_id: str) -> float:
    """Returns the score that this model version gives an item for this user, in [0, 1)."""
    text = f"{model}\x00{version}\x00{user_id}\x00{item_id}"
    number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
    return (number - number % 2048) / 2**64


@lru_cache(maxsize=20_000)
def answer_of(
    api: str, model: str, version: str, user_id: str, tokens: int = len(TOKENS)
) -> tuple[tuple[str, float], ...]:
    """Returns the items of the answer to the driver's request with their scores: best first, but tokens in order.

    Of equal scores, the last item is first. ``tokens`` are as many as a request for tokens asks for.
    """
    if api == "generate.v1":
        ids = [f"g{number:02d}" for number in range(tokens)]
        return tuple((each, score_of(model, version, user_id, each)) for each in ids)
    return _ranked(ASKED[api], model, version, user_id)


def _ranked(ids: Iterable[str], model: str, version: str, user_id: str) -> tuple[tuple[str, float], ...]:
    scored = [(item_id, score_of(model, version, user_id, item_id)) for item_id in ids]
    return tuple(sorted(scored, key=lambda each: (each[1], each[0]), reverse=True))


def items_digest(items: Iterable[tuple[str, float]], *said: str) -> str:
    """Returns the digest of an answer's items, each with its id and score; a stream's also with what its model said."""
    lines = ("\0".join((title, repr(score), *said)) + "\n" for title, score in items)
    return hashlib.blake2b("".join(lines).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def answer_digest(api: str, model: str, version: str, user_id: str, tokens: int = len(TOKENS)) -> str:
    """Returns the digest of the answer that this model version must give the driver's request of this user."""
    return items_digest(answer_of(api, model, version, user_id, tokens))


def first_item(api: str, model: str, version: str, user_id: str) -> tuple[str, float]:
    """Returns id and score of the first item of that answer."""
    return answer_of(api, model, version, user_id)[0]


def parts_of(receipt: str) -> dict[str, str]:
    """Returns the digests of a receipt by part; the receipt is hexadecimal."""
    return {part: receipt[place * _HEX : (place + 1) * _HEX] for place, part in enumerate(PARTS)}


def sender_of(request_id: str) -> str:
    """Returns whose key the receipt of a request has: ``1f3a`` of ``1f3a.0-0000002c``."""
    return request_id.partition("-")[0].partition(".")[0]


def receipt_keys(secret: str, request_ids: Iterable[str]) -> dict[str, str]:
    """Returns the keys of these requests' receipts by sender, which the lab's secret gives; none without a secret."""
    senders = set(map(sender_of, request_ids)) if secret else ()
    return {each: _key(secret, each) for each in sorted(senders)}


def _key(secret: str, sender: str) -> str:
    text = sender.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, key=secret.encode(), digest_size=16).hexdigest()


def context_digest(key: str, request_id: str, use_case: str, context: Mapping[str, str]) -> str:
    """Returns the digest of a request's context; a missing field counts as empty."""
    return _digest(key, request_id, use_case, *[context.get(field, "") for field in _CONTEXT])


def config_digest(key: str, model: str, version: str, parameters: Mapping[str, Any]) -> str:
    """Returns the digest of the model config in a request's body."""
    return _digest(key, model, version, json.dumps(_with_doubles(parameters), sort_keys=True))


@lru_cache(maxsize=100_000)
def payload_digest(key: str, api: str, size: int) -> str:
    """Returns the digest of the driver's payload of this API and size, bytes; empty if the API is not known."""
    payload = _PAYLOADS[api](size) if api in _PAYLOADS else None
    if payload is None:
        return ""
    return digest_of(key, payload)


def digest_of(key: str, payload: bytes) -> str:
    """Returns the digest of a payload."""
    return _digest(key, f"{zlib.crc32(payload):08x}{len(payload):08x}")


def payload_size(api: str, wanted: int) -> int:
    """Returns the size, bytes, of the driver's payload of this API for which a plan wants about ``wanted`` bytes.

    It is filled with floats after 9 bytes for each title, or 19 for a payment. 0 if the API is not known.
    """
    match api:
        case "ranking.v1":
            each, more = divmod(max(wanted - 9 * _TITLES, 0) // 4, _TITLES)
            return more * _length(_title_length(each + 1)) + (_TITLES - more) * _length(_title_length(each))
        case "fraud.v1":
            return _length(len(_PAYMENT) + _features_length(max(wanted - 19, 0) // 4))
        case "generate.v1":
            return len(_generation(max((wanted - 5) // 4, 1)))
        case _:
            return 0


def _digest(key: str, *texts: str) -> str:
    joined = "".join([f"{len(text)}:{text}" for text in texts])
    raw = hashlib.blake2b(joined.encode("utf-8", "surrogatepass"), digest_size=8, key=key.encode())
    return raw.hexdigest()


def _with_doubles(value: Any) -> Any:
    """Returns a value as it is after a ``google.protobuf.Struct``, whose only numbers are doubles."""
    if isinstance(value, dict):
        return {name: _with_doubles(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with_doubles(each) for each in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _ranking(size: int) -> bytes | None:
    """Returns ten titles of this size in all: each with its id, and as many features as fit, spread evenly."""
    for floats in _candidates(size):
        each, more = divmod(floats, _TITLES)
        if more * _length(_title_length(each + 1)) + (_TITLES - more) * _length(_title_length(each)) == size:
            return b"".join(_title(number, each + (number < more)) for number in range(_TITLES))
    return None


def _fraud(size: int) -> bytes | None:
    for floats in _candidates(size):
        if _length(len(_PAYMENT) + _features_length(floats)) == size:
            return _field(2, _PAYMENT + _features(4, floats))
    return None


def _tokens(size: int) -> bytes | None:
    return next((made for each in _candidates(size) if each and len(made := _generation(each)) == size), None)


def _generation(tokens: int) -> bytes:
    return prompt_payload(struct.pack(f"<{tokens}I", *range(tokens)))


def prompt_payload(prompt: bytes, session: str = "", lora: str = "", wanted: int = len(TOKENS)) -> bytes:
    """Returns a request for tokens: its prompt, 4 bytes a token, how many are wanted, conversation, and adapter."""
    texts = [_field(tag, text.encode()) for tag, text in ((4, session), (5, lora)) if text]
    return b"".join((_field(2, prompt), bytes((3 << 3,)), _varint(wanted), *texts))


_PAYLOADS = {"ranking.v1": _ranking, "fraud.v1": _fraud, "generate.v1": _tokens}


def _candidates(size: int) -> range:
    """Returns the numbers of floats, four bytes each, that may make up this size beside tags, lengths and ids."""
    most = size // 4
    return range(most, max(-1, most - 64), -1)


def _title(number: int, floats: int) -> bytes:
    return _field(2, _field(1, TITLES[number].encode()) + _features(2, floats))


def _title_length(floats: int) -> int:
    return _length(3) + _features_length(floats)


def _features(tag: int, floats: int) -> bytes:
    return _field(tag, struct.pack("<f", 0.5) * floats) if floats else b""


def _features_length(floats: int) -> int:
    return _length(4 * floats) if floats else 0


def _field(tag: int, content: bytes) -> bytes:
    return _varint(tag << 3 | 2) + _varint(len(content)) + content


def _length(content: int) -> int:
    """Returns the length of a field whose content has this length, bytes."""
    return 1 + len(_varint(content)) + content


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low]) if not rest else bytes([low | 0x80]) + _varint(rest)


_PAYMENT = _field(1, PAYMENT.encode()) + b"\x10" + _varint(4_200) + _field(3, b"EUR")
