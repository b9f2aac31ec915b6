"""The stub models' arithmetic: an answer proves who computed it."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_SCALE = float(1 << 64)


def scores(model: str, version: str, user_id: str, item_ids: Iterable[str]) -> list[float]:
    """Score of each item (a title, a payment) for one user, in [0, 1).

    A function of its arguments alone: two model versions practically never agree on a score, so whoever knows the
    arguments can tell from the score which version computed it.
    """
    hasher = blake2b(f"{model}\x00{version}\x00{user_id}\x00".encode(), digest_size=8)
    result = []
    for item_id in item_ids:
        one = hasher.copy()
        one.update(item_id.encode())
        # 53 bits are what a double holds exactly.
        result.append((int.from_bytes(one.digest(), "big") >> 11 << 11) / _SCALE)
    return result
