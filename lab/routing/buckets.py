"""Weighted shares of users: ``(salt, unit)`` → one of 10,000 buckets → a share.

Each share holds one contiguous run of buckets. The runs are in natural order of the shares' names (``v2`` before
``v10``), not in the order of writing, so that equal tables route equally.

What a change of weights moves: let two shares have 95 % and 5 %, and let the second grow to 10 %. One boundary goes
from 9,500 to 9,000; the users between move from the first to the second, and nobody else does. That is the minimum, and
it is one-way: a rollout in steps never returns a user to an old version. With three or more shares, the runs *between*
the growing and the shrinking one shift too, so users near their edges move although their share kept its weight. No
layout that knows only the present weights avoids that for every change. Neighbours exchange users without affecting
others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

BUCKETS = 10_000
_BUCKETS_PER_PERCENT = BUCKETS // 100
_NUMBER = re.compile(r"([0-9]+)")


class Share(NamedTuple):
    """One share's run of buckets, ``first <= bucket < end``."""

    name: str
    first: int
    end: int


def experiment_salt(experiment: str | int) -> str:
    """Salt of an experiment: its id alone, so that a user is in the same cell in every participating use case."""
    return f"experiment/{experiment}"


def split_salt(use_case: str, rule: str) -> str:
    """Salt of a split: use case and rule, so that splits draw independently of each other."""
    return f"split/{use_case}/{rule}"


def shadow_salt(use_case: str) -> str:
    """Salt of a shadow: the use case alone, so that copies are independent of rules, splits and experiments."""
    return f"shadow/{use_case}"


def is_shadowed(use_case: str, request_id: str, percent: int) -> bool:
    """Whether this request is among the ``percent`` that are copied to the use case's shadow.

    Raising the percentage adds requests and drops none. The sender draws per request, as one decision serves many.
    """
    return bucket(shadow_salt(use_case), request_id) < percent * _BUCKETS_PER_PERCENT


def salted(salt: str) -> Any:
    """The hash with the salt absorbed; :func:`bucket_of` finishes it for each unit."""
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
    """The shares' runs, from bucket 0 without gaps; shares of 0 % have none.

    Args:
        weights: name → whole percent; the sum is 100.
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
    """Sort key that compares numbers inside names as numbers: ``2`` < ``10``, ``m@v2`` < ``m@v10``."""
    # Text and digits alternate, so text is only compared with text.
    parts = _NUMBER.split(name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name
