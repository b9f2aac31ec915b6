"""Tenants' limits as values. Every gateway loads this module: it imports only the standard library."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

DEFAULT = "default"
"""The entry for tenants without their own."""

MOST_UNNAMED = 1_024
"""Number of tenants without an entry that get a bucket each at one gateway; any further ones share a bucket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The limits of one entry in the table's ``tenants``.

    Attributes:
        rate: requests per second on average; None for no limit.
        burst: requests at once after a pause; ignored without a rate.
        concurrent: requests in flight; None for no limit.
        callers: callers that may name the tenant; empty for all.
    """

    rate: float | None = None
    burst: int = 1
    concurrent: int | None = None
    callers: frozenset[str] = frozenset()

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """The limit of a valid entry; the default burst is one second's requests."""
        rate = entry.get("rate")
        return cls(
            rate=rate,
            burst=entry.get("burst", 1 if rate is None else math.ceil(rate)),
            concurrent=entry.get("concurrent"),
            callers=frozenset(entry.get("callers", ())),
        )

    def share(self, replicas: int) -> Limit:
        """The share of one of several gateway replicas; whole numbers are rounded up, so no share is 0."""
        return Limit(
            rate=None if self.rate is None else self.rate / replicas,
            burst=math.ceil(self.burst / replicas),
            concurrent=None if self.concurrent is None else math.ceil(self.concurrent / replicas),
        )


def limits_of(tenants: Mapping[str, Mapping[str, Any]]) -> dict[str, Limit]:
    """Limits by tenant, from a valid table's section."""
    return {tenant: Limit.of(entry) for tenant, entry in tenants.items()}
