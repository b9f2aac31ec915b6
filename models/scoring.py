"""The stub models' scores: an answer proves which version computed it."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

_SCALE = float(1 << 64)


def scores(model: str, version: str, user_id: str, item_ids: Iterable[str]) -> list[float]:
    """Score of each item (a title, a payment) for one user, in [0, 1).

    It depends only on its arguments, and two model versions practically never agree on a score. So the score identifies
    the version that computed it.
    """
    hasher = blake2b(f"{model}\x00{version}\x00{user_id}\x00".encode(), digest_size=8)
    result = []
    for item_id in item_ids:
        one = hasher.copy()
        one.update(item_id.encode())
        # A double holds 53 bits exactly.
        result.append((int.from_bytes(one.digest(), "big") >> 11 << 11) / _SCALE)
    return result
