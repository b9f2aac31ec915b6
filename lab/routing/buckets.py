"""Weighted shares of users: ``(salt, unit)`` → one of 10,000 buckets → a share.

Each share holds one unbroken run of buckets. The runs lie in the natural order of the shares' names (``v2`` before
``v10``), not in the order of writing, so that two tables which are equal as data route equally.

What moves when weights change. Let two shares have 95 % and 5 %, and the second grow to 10 %: one boundary goes from
9,500 to 9,000, the users between move from the first to the second, and nobody else. That is the least possible, as 5 %
of the users must come from somewhere; and it is one-way, so a rollout in steps never gives a user back an old version.
With three or more shares the runs that lie *between* the growing and the shrinking one are shifted too, and their
users near the edges move although their own share has kept its weight: no layout that knows only the present weights
avoids that for every change. Neighbours exchange users without disturbing others.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

BUCKETS = 10_000
_BUCKETS_PER_PERCENT = BUCKETS // 100
_NUMBER = re.compile(r"([0-9]+)")


class Share(NamedTuple):
    """One share's run of buckets, ``first <= bucket < end``."""

    name: str
    first: int
    end: int


def experiment_salt(experiment: str | int) -> str:
    """An experiment's id alone: a user is in the same cell for every use case that takes part."""
    return f"experiment/{experiment}"


def split_salt(use_case: str, rule: str) -> str:
    """Use case and rule: different splits draw independently of each other."""
    return f"split/{use_case}/{rule}"


def shadow_salt(use_case: str) -> str:
    """Use case: which of its requests are copied depends on no rule, split or experiment."""
    return f"shadow/{use_case}"


def is_shadowed(use_case: str, request_id: str, percent: int) -> bool:
    """Whether this request is one of the ``percent`` that are copied to the use case's shadow.

    Raising the percentage adds requests and drops none. Whoever sends asks, as one decision serves many requests.
    """
    return bucket(shadow_salt(use_case), request_id) < percent * _BUCKETS_PER_PERCENT


def salted(salt: str) -> Any:
    """The hash with the salt already in it; :func:`bucket_of` finishes it for one unit after the other."""
    return blake2b(f"{salt}\x00".encode(), digest_size=8)


def bucket_of(salted_hash: Any, unit: str) -> int:
    """Bucket of a unit, 0 to 9,999."""
    one = salted_hash.copy()
    one.update(unit.encode("utf-8", "surrogatepass"))
    return int.from_bytes(one.digest(), "big") % BUCKETS


def bucket(salt: str, unit: str) -> int:
    """Bucket of a unit, 0 to 9,999: the same in every process and on every machine."""
    return bucket_of(salted(salt), unit)


def layout(weights: Mapping[str, int]) -> tuple[Share, ...]:
    """The shares' runs, from bucket 0 on without a gap; shares of 0 % have none.

    Args:
        weights: name → whole percent; together 100.
    """
    shares = []
    first = 0
    for name in sorted(weights, key=natural):
        end = first + weights[name] * _BUCKETS_PER_PERCENT
        if end > first:
            shares.append(Share(name, first, end))
        first = end
    return tuple(shares)


def natural(name: str) -> tuple[list[str | int], str]:
    """Sorting key in which numbers inside names count as numbers: ``2`` < ``10``, ``m@v2`` < ``m@v10``."""
    # Text and digits take turns, so that text is only ever compared with text.
    parts = _NUMBER.split(name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name
