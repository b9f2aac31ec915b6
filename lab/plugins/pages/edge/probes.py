"""Requests that an edge must refuse, tried once before a run's pages."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc.aio

from lab.plugins.pages.edge.tokens import HEADER, SCHEME, claims_of, sign
from models.proto.caller.v1 import caller_pb2

REFUSED = "UNAUTHENTICATED"
"""Status of each."""

ATTACKS = ("no token", "another key", "no signature", "an expired token", "another audience")
_LONG_S, _TIMEOUT_S = 3_600.0, 5.0


async def try_attacks(
    ask: Callable[..., Awaitable[Any]], key: bytes, metadata: tuple[tuple[str, str], ...]
) -> dict[str, str]:
    """Returns status by attack, of :data:`ATTACKS`.

    Args:
        ask: asks the edge for a page.
        key: of the lab's tokens.
        metadata: the other headers of a request.
    """
    found: dict[str, str] = {}
    for attack, headers in _headers(key).items():
        try:
            await ask(caller_pb2.GetPageRequest(), timeout=_TIMEOUT_S, metadata=(*metadata, *headers))
        except grpc.aio.AioRpcError as error:
            found[attack] = error.code().name
        else:
            found[attack] = "OK"
    return found


def _headers(key: bytes) -> Mapping[str, tuple[tuple[str, str], ...]]:
    now_s = time.time()  # noqa: TID251 (tokens have dates)
    good = claims_of("u1", "", expires_s=now_s + _LONG_S)
    tokens = (
        "",
        sign(good, secrets.token_bytes(32)),
        sign(good, key, algorithm="none"),
        sign(claims_of("u1", "", expires_s=now_s - 1), key),
        sign({**good, "aud": "another"}, key),
    )
    return {
        attack: ((HEADER, f"{SCHEME}{token}"),) if token else () for attack, token in zip(ATTACKS, tokens, strict=True)
    }
