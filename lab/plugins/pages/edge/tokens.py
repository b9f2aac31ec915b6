"""Tokens of users: JSON Web Tokens (RFC 7519) by HMAC with SHA-256, which this lab's driver signs for its own edge.

One algorithm, one key and one audience, so that nothing in a token chooses how it is checked (RFC 8725).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jwt

from lab.plain_text import printable, require_plain

HEADER = "authorization"
"""Header of a request with its token, after :data:`SCHEME`."""

SCHEME = "Bearer "
ALGORITHM = "HS256"

AUDIENCE = "pages"
"""Whom the tokens are for."""

MAX_CHARACTERS = 2_048
"""Limit for a token."""

_SHOWN = 100


class User(NamedTuple):
    """The user that a token names, and the user's tenant, empty for none."""

    user_id: str
    tenant: str


class TokenError(Exception):
    """A token is refused; the message says why, in one line without the token."""


def sign(claims: Mapping[str, Any], key: bytes, *, algorithm: str = ALGORITHM) -> str:
    """Returns a token with these claims; without a signature if the algorithm is ``none``."""
    used: Any = None if algorithm == "none" else key
    return jwt.encode(dict(claims), used, algorithm)


def claims_of(user_id: str, tenant: str, *, expires_s: float) -> dict[str, Any]:
    """Returns the claims of a user's token, which expires at a Unix time, seconds."""
    return {"sub": user_id, "tenant": tenant, "aud": AUDIENCE, "exp": expires_s}


def user_of(metadata: Iterable[tuple[str, str | bytes]], key: bytes) -> User:
    """Returns the user of a request, by the token in its headers.

    Args:
        metadata: the headers of the request.
        key: by which tokens are signed.

    Raises:
        TokenError: there is no token, or it is refused.
    """
    values = [value for name, value in metadata if name == HEADER]
    if len(values) != 1 or not isinstance(values[0], str) or not values[0].startswith(SCHEME):
        raise TokenError(f"no user token: send one header {HEADER}: {SCHEME}TOKEN")
    token = values[0].removeprefix(SCHEME)
    if len(token) > MAX_CHARACTERS:
        raise TokenError(f"user token: has {len(token)} characters; send {MAX_CHARACTERS} at most")
    try:
        claims = jwt.decode(
            token, key, [ALGORITHM], audience=AUDIENCE, options={"require": ["aud", "exp", "sub"], "strict_aud": True}
        )
    except (jwt.InvalidTokenError, RecursionError) as error:
        wanted = f"send one for {AUDIENCE!r}, signed by {ALGORITHM} with this lab's key, that has not expired"
        raise TokenError(f"user token: {printable(str(error), _SHOWN)}; {wanted}") from None
    return _user_in(claims)


def _user_in(claims: Mapping[str, Any]) -> User:
    user_id, tenant = claims["sub"], claims.get("tenant", "")
    if not user_id or not isinstance(tenant, str):
        raise TokenError("user token: names no user; give it a text `sub`, and `tenant` as a text if any")
    try:
        require_plain("sub", user_id)
        require_plain("tenant", tenant)
    except ValueError as error:
        raise TokenError(f"user token: {error}") from None
    return User(user_id, tenant)
