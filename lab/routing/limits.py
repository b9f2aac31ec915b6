"""How much a tenant may ask of the gateways, as values; every gateway loads it, and it the standard library alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT = "default"
"""Stands for each tenant that has no entry of its own."""

MOST_UNNAMED = 1_024
"""Tenants without an entry of their own that each have a bucket, at one gateway. What comes beyond shares one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What one entry of the table's ``tenants`` grants to a tenant.

    Attributes:
        rate: requests per second in the long run; None for no limit.
        burst: requests at once after a pause; of no meaning without a rate.
        concurrent: requests under way; None for no limit.
        callers: who may name the tenant; empty for everybody.
    """

    rate: float | None = None
    burst: int = 1
    concurrent: int | None = None
    callers: frozenset[str] = frozenset()

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """The limit that a valid entry means; a burst that it leaves out is what the rate grants in a second."""
        rate = entry.get("rate")
        return cls(
            rate=rate,
            burst=entry.get("burst", 1 if rate is None else math.ceil(rate)),
            concurrent=entry.get("concurrent"),
            callers=frozenset(entry.get("callers", ())),
        )

    def share(self, replicas: int) -> Limit:
        """What one of so many gateway replicas grants; whole requests are rounded up, so that none grants nothing."""
        return Limit(
            rate=None if self.rate is None else self.rate / replicas,
            burst=math.ceil(self.burst / replicas),
            concurrent=None if self.concurrent is None else math.ceil(self.concurrent / replicas),
        )


def limits_of(tenants: Mapping[str, Mapping[str, Any]]) -> dict[str, Limit]:
    """The limits by tenant that a valid table's section means."""
    return {tenant: Limit.of(entry) for tenant, entry in tenants.items()}
