"""Tokens of users: JSON Web Tokens (RFC 7519) by HMAC with SHA-256, which this lab's driver signs for its own edge.

One algorithm, one key and one audience, so that nothing in a token chooses how it is checked (RFC 8725).
"""

from __future__ import annotations

import hmac
import json
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from lab.plain_text import require_plain
from lab.reading import parse_json

HEADER = "authorization"
"""Header of a request with its token, after :data:`SCHEME`."""

SCHEME = "Bearer "
ALGORITHM = "HS256"

AUDIENCE = "pages"
"""Whom the tokens are for."""

MAX_CHARACTERS = 2_048
"""Limit for a token."""

_PARTS = 3


class User(NamedTuple):
    """The user that a token names, and the user's tenant, empty for none."""

    user_id: str
    tenant: str


class TokenError(Exception):
    """A token is refused; the message says why, in one line without the token."""


def sign(claims: Mapping[str, Any], key: bytes, *, algorithm: str = ALGORITHM) -> str:
    """Returns a token with these claims; without a signature if the algorithm is ``none``."""
    signed = f"{_encoded({'alg': algorithm, 'typ': 'JWT'})}.{_encoded(claims)}"
    signature = b"" if algorithm == "none" else _signature(signed, key)
    return f"{signed}.{_text(signature)}"


def claims_of(user_id: str, tenant: str, *, expires_s: float) -> dict[str, Any]:
    """Returns the claims of a user's token, which expires at a Unix time, seconds."""
    return {"sub": user_id, "tenant": tenant, "aud": AUDIENCE, "exp": expires_s}


def user_of(metadata: Iterable[tuple[str, str | bytes]], key: bytes, now_s: float) -> User:
    """Returns the user of a request, by the token in its headers.

    Args:
        metadata: the headers of the request.
        key: by which tokens are signed.
        now_s: Unix time, seconds.

    Raises:
        TokenError: there is no token, or it is refused.
    """
    values = [value for name, value in metadata if name == HEADER]
    if len(values) != 1 or not isinstance(values[0], str) or not values[0].startswith(SCHEME):
        raise TokenError(f"no user token: send one header {HEADER}: {SCHEME}TOKEN")
    return _user_in(_claims(values[0].removeprefix(SCHEME), key), now_s)


def _claims(token: str, key: bytes) -> Mapping[str, Any]:
    """The claims of a token, once its signature has been checked."""
    if len(token) > MAX_CHARACTERS:
        raise TokenError(f"user token: has {len(token)} characters; send {MAX_CHARACTERS} at most")
    parts = token.split(".")
    if len(parts) != _PARTS:
        raise TokenError("user token: is not a JWT; send three parts with dots between")
    header = _decoded(parts[0])
    if header.get("alg") != ALGORITHM or "crit" in header:
        raise TokenError(f"user token: is signed by {ascii(header.get('alg'))[:20]}; sign it by {ALGORITHM}")
    if not hmac.compare_digest(_bytes(parts[2]), _signature(f"{parts[0]}.{parts[1]}", key)):
        raise TokenError("user token: has a wrong signature; sign it with this lab's key")
    return _decoded(parts[1])


def _user_in(claims: Mapping[str, Any], now_s: float) -> User:
    if claims.get("aud") != AUDIENCE:
        raise TokenError(f"user token: is for {ascii(claims.get('aud'))[:40]}, not for {AUDIENCE!r}")
    expires_s = claims.get("exp")
    if not isinstance(expires_s, int | float) or isinstance(expires_s, bool):
        raise TokenError("user token: does not expire; give it a time `exp`")
    if not now_s < expires_s:
        raise TokenError("user token: has expired; send a new one")
    user_id, tenant = claims.get("sub"), claims.get("tenant", "")
    if not isinstance(user_id, str) or not user_id or not isinstance(tenant, str):
        raise TokenError("user token: names no user; give it a text `sub`, and `tenant` as a text if any")
    try:
        require_plain("sub", user_id)
        require_plain("tenant", tenant)
    except ValueError as error:
        raise TokenError(f"user token: {error}") from None
    return User(user_id, tenant)


def _signature(signed: str, key: bytes) -> bytes:
    return hmac.digest(key, signed.encode(), "sha256")


def _encoded(document: Mapping[str, Any]) -> str:
    return _text(json.dumps(document, separators=(",", ":")).encode())


def _text(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")


def _bytes(part: str) -> bytes:
    try:
        return b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise TokenError("user token: is not a JWT; write its parts in base64url") from None


def _decoded(part: str) -> Mapping[str, Any]:
    try:
        document = parse_json(_bytes(part).decode())
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise TokenError("user token: is not a JWT; write header and claims as JSON objects")
    return document
