"""Tenants' quotas at one gateway replica: a token bucket and a count of requests in flight for each tenant.

Replicas do not coordinate: each grants its share of a limit, see docs/decisions. Cost per request does not depend on
the number of tenants, and memory is bounded, however many names callers make up.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from lab.routing.limits import DEFAULT, MOST_UNNAMED, Limit
from lab.routing.rules import shown

_UNLIMITED = Limit()
_ROUNDING = 1e-9  # at 1 rps, ten refills of 0.1 s must make a whole token, despite binary fractions


class OverLimitError(Exception):
    """The tenant's quota is used up; the message names tenant, use case, limit and value."""


class NotItsTenantError(Exception):
    """The caller may not name this tenant; the message lists those who may."""


class TenantQuota:
    """What one tenant has left at this replica.

    Attributes:
        entry: name of its entry in the route table's ``tenants``.
        limit: of all replicas together.
        share: this replica's part of the limit.
        in_flight: requests in flight.
    """

    __slots__ = ("_at", "_tokens", "entry", "in_flight", "limit", "share")

    def __init__(self, entry: str, limit: Limit, share: Limit, now: float) -> None:
        self.entry, self.limit, self.share = entry, limit, share
        self.in_flight = 0
        self._tokens, self._at = float(share.burst), now

    def change(self, entry: str, limit: Limit, share: Limit, now: float) -> None:
        """Applies another limit from now on; tokens that are used stay used."""
        self._refill(now)
        had_rate = self.share.rate is not None
        self.entry, self.limit, self.share = entry, limit, share
        self._tokens = min(self._tokens, share.burst) if had_rate else float(share.burst)

    def is_as_new(self, now: float) -> bool:
        """Whether it equals a new one, so that it can be forgotten."""
        self._refill(now)
        return not self.in_flight and self._tokens >= self.share.burst

    def wait_s(self, now: float) -> float:
        """Takes a token and returns 0, or returns the seconds until there is one."""
        rate = self.share.rate
        if rate is None:
            return 0.0
        self._refill(now)
        if self._tokens < 1 - _ROUNDING:
            return (1 - self._tokens) / rate
        self._tokens = max(0.0, self._tokens - 1)
        return 0.0

    def _refill(self, now: float) -> None:
        if self.share.rate is not None:
            self._tokens = min(float(self.share.burst), self._tokens + (now - self._at) * self.share.rate)
        self._at = now


class Limiter:
    """Admits requests while their tenants' quotas last.

    Args:
        replicas: number of gateways among which each limit is divided.
        clock: monotonic, seconds.
        most_unnamed: see :data:`lab.routing.limits.MOST_UNNAMED`.
    """

    def __init__(
        self, replicas: int = 1, clock: Callable[[], float] = time.monotonic, most_unnamed: int = MOST_UNNAMED
    ) -> None:
        self._replicas, self._clock, self._most_unnamed = replicas, clock, most_unnamed
        self._limits: Mapping[str, Limit] = {}
        self._named: dict[str, TenantQuota] = {}
        # Of tenants that every caller may name, by tenant and caller: no more than there are certificates.
        self._claimed: dict[tuple[str, str], TenantQuota] = {}
        # Least recently used first.
        self._unnamed: OrderedDict[str, TenantQuota] = OrderedDict()
        self._unlimited = TenantQuota("", _UNLIMITED, _UNLIMITED, 0.0)
        self._beyond = self._unlimited

    @property
    def known(self) -> int:
        """Number of quotas held."""
        return len(self._named) + len(self._claimed) + len(self._unnamed)

    def put_in_force(self, limits: Mapping[str, Limit]) -> None:
        """Applies these limits from now on; requests in flight and used tokens keep counting."""
        if limits == self._limits:
            return
        before = {**self._unnamed, **self._named}
        self._limits = limits
        self._named = {
            tenant: self._changed(before.pop(tenant, None), tenant) for tenant in limits if tenant != DEFAULT
        }
        self._claimed = {
            (tenant, caller): self._changed(quota, tenant)
            for (tenant, caller), quota in self._claimed.items()
            if tenant in self._named and not limits[tenant].callers
        }
        self._unnamed.clear()
        self._beyond = self._unlimited
        if DEFAULT in limits:
            self._beyond = self._changed(None, DEFAULT)
            for tenant, quota in before.items():
                if len(self._unnamed) < self._most_unnamed:
                    self._unnamed[tenant] = self._changed(quota, DEFAULT)

    def enter(self, tenant: str, use_case: str, caller: str = "", *, proved: bool = False) -> TenantQuota:
        """Charges a request to its tenant's quota; pass the result to :meth:`leave` when the request ends.

        Args:
            tenant: named by the request.
            use_case: of the request.
            caller: sender of the request.
            proved: whether mTLS proves the caller's identity. Then each caller has its own quota for a tenant that
                every caller may name, so it cannot use up another's. It has one quota for all tenants without an
                entry, so it gains nothing by inventing names.

        Raises:
            NotItsTenantError: the caller may not name this tenant.
            OverLimitError: the quota is used up.
        """
        limit = self._limits.get(tenant)
        if limit is not None and limit.callers and caller not in limit.callers:
            raise NotItsTenantError(
                f"{use_case}: caller {shown(caller)} may not name tenant {shown(tenant)}: those who may are in "
                f"tenants.{tenant}.callers of the route table: {', '.join(sorted(limit.callers))}"
            )
        claims = caller if proved and not (limit and limit.callers) else ""
        quota = self._quota(tenant, claims)
        concurrent = quota.share.concurrent
        if concurrent is not None and quota.in_flight >= concurrent:
            raise OverLimitError(
                f"{_who(tenant, use_case, claims)} has {quota.in_flight} in flight; its limit of concurrent requests "
                f"is {quota.limit.concurrent}{self._of_which(concurrent)}: tenants.{quota.entry}.concurrent of the "
                f"route table"
            )
        if wait_s := quota.wait_s(self._clock()):
            raise OverLimitError(
                f"{_who(tenant, use_case, claims)} is over its rate limit of {quota.limit.rate:g} requests per second"
                f"{self._of_which(quota.share.rate or 0)}: tenants.{quota.entry}.rate of the route table; ask "
                f"again in {math.ceil(wait_s * 1000)} ms"
            )
        quota.in_flight += 1
        return quota

    def leave(self, quota: TenantQuota) -> None:
        """Counts a request out."""
        quota.in_flight -= 1

    def _quota(self, tenant: str, claims: str) -> TenantQuota:
        """The tenant's quota, or the caller's own if it only claims to act for the tenant."""
        named = self._named.get(tenant)
        if not claims or named is None:
            return named or self._unnamed_quota(f"/{claims}" if claims else tenant)
        quota = self._claimed.get((tenant, claims))
        if quota is None:
            quota = self._claimed[tenant, claims] = self._changed(None, tenant)
        return quota

    def _unnamed_quota(self, tenant: str) -> TenantQuota:
        if DEFAULT not in self._limits:
            return self._unlimited
        quota = self._unnamed.get(tenant)
        if quota is not None:
            self._unnamed.move_to_end(tenant)
            return quota
        if len(self._unnamed) >= self._most_unnamed:
            oldest, its = next(iter(self._unnamed.items()))
            if not its.is_as_new(self._clock()):
                # Forgetting it would refill it. The next newcomer looks at another one.
                self._unnamed.move_to_end(oldest)
                return self._beyond
            del self._unnamed[oldest]
        quota = self._unnamed[tenant] = self._changed(None, DEFAULT)
        return quota

    def _changed(self, quota: TenantQuota | None, entry: str) -> TenantQuota:
        limit, now = self._limits[entry], self._clock()
        share = limit.share(self._replicas)
        if quota is None:
            return TenantQuota(entry, limit, share, now)
        quota.change(entry, limit, share, now)
        return quota

    def _of_which(self, share: float) -> str:
        return f", {share:g} of them at each of {self._replicas} gateways" if self._replicas > 1 else ""


def _who(tenant: str, use_case: str, claims: str) -> str:
    who = f"tenant {shown(tenant)}" if tenant else "a request without a tenant"
    return f"{use_case}: {claims} for {who}" if claims and tenant else f"{use_case}: {claims or who}"
