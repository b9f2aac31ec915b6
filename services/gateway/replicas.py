"""The replicas of one routing key, each by itself: for keys whose use cases say what is to be done if some fail.

Others share a channel over which gRPC balances (``pool``), which costs less and knows nothing of failures.
"""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial
from typing import TYPE_CHECKING

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2

from lab.routing.retry_budget import RetryBudget

if TYPE_CHECKING:
    from collections.abc import Collection

    from lab.routing.resilience import Health, Hedge, Policy
    from services.gateway.channel_pool import ChannelPool

_CHECK = "/grpc.health.v1.Health/Check"
_CHECK_REQUEST = health_pb2.HealthCheckRequest().SerializeToString()
# What Envoy counts as a server's error.
_FAILURES = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
# Envoy's share of a replica that has just come.
_FIRST_SHARE = 0.1


MODEL = "model"
"""Who must be at a replica's address, if nothing more is known of it."""


def peer_of(cluster: str) -> str:
    """Who must be there, of a model cluster by its name."""
    return f"{MODEL}/{cluster}" if cluster else MODEL


class FullError(Exception):
    """The breaker's bound is reached; the message says which."""


class Replica:
    """One replica, and the way to it.

    Attributes:
        channel: the way there.
        peer: who must be there.
        in_flight: attempts under way.
        since: when it came, as by :func:`time.monotonic`; 0 for those that were there from the beginning.
        stands_in: whether it is for while none of the others can answer.
    """

    def __init__(self, address: str, group: Replicas, channels: ChannelPool, peer: str = MODEL) -> None:
        self.channel = channels.take((address,), peer)
        self.peer = peer
        self.in_flight = 0
        self.since = 0.0
        self.stands_in = False
        self._group = group
        self._give_back = partial(channels.give_back, (address,), peer)
        self._failures = 0
        self._out_until = 0.0
        self._healthy = True
        self._idle = asyncio.Event()
        health = group.policy.health
        self._asking = asyncio.create_task(self._ask(health)) if health is not None else None

    @property
    def healthy(self) -> bool:
        """Whether it says that it serves, if it is asked, and can be reached."""
        return self._healthy and self.channel.reachable

    def ejected(self, now: float) -> bool:
        """Whether it has failed too often of late."""
        return now < self._out_until

    def share(self, now: float, slow_start_s: float) -> float:
        """Of its full share of requests, what it is to get by now."""
        return min(1.0, max(_FIRST_SHARE, (now - self.since) / slow_start_s)) if slow_start_s else 1.0

    def release(self, code: grpc.StatusCode | None = None) -> None:
        """An attempt is done, with this status; None if it was broken off, which says nothing about the replica."""
        self.in_flight -= 1
        self._group.budget.in_flight -= 1
        if not self.in_flight:
            self._idle.set()
        outliers = self._group.policy.outliers
        if outliers is None or code is None:
            return
        if code not in _FAILURES:
            self._failures = 0
            return
        self._failures += 1
        if self._failures >= outliers.errors and self._group.may_eject_one():
            self._failures = 0
            self._out_until = time.monotonic() + outliers.eject_s

    async def _ask(self, health: Health) -> None:
        rpc = self.channel.raw(_CHECK)
        failures = 0
        while True:
            try:
                answer = health_pb2.HealthCheckResponse.FromString(await rpc(_CHECK_REQUEST, timeout=health.every_s))
                serves = answer.status == health_pb2.HealthCheckResponse.SERVING
            except grpc.aio.AioRpcError:
                serves = False
            failures = 0 if serves else failures + 1
            if not failures or failures >= health.unhealthy:
                self._healthy = not failures
            await asyncio.sleep(health.every_s)

    async def leave(self) -> None:
        """Gives the way there back once nobody uses it."""
        self.stop()
        while self.in_flight:
            self._idle.clear()
            await self._idle.wait()
        self._give_back()

    def stop(self) -> None:
        """Asks it no longer how it is."""
        if self._asking is not None:
            self._asking.cancel()


class Replicas:
    """A routing key's replicas under one policy.

    Attributes:
        policy: what is done about those that fail.
        budget: grants retries and hedges, and counts the attempts in flight to all of them.
    """

    def __init__(self, policy: Policy, channels: ChannelPool) -> None:
        self.policy = policy
        self.budget = RetryBudget(policy)
        self._channels = channels
        self._by_address: dict[str, Replica] = {}
        self._turn = 0

    @property
    def hedge(self) -> Hedge | None:
        """Whether a second attempt is made beside a slow first one, and when."""
        return self.policy.hedge

    def take(self, tried: Collection[object] = ()) -> Replica | None:
        """The replica whose turn it is, one attempt more under way to it; None if none is healthy.

        Args:
            tried: those that the request has been at, which are taken if there is no other.

        Raises:
            FullError: as much is under way as may be.
        """
        breaker = self.policy.breaker
        if breaker is not None and breaker.requests and self.budget.in_flight >= breaker.requests:
            raise FullError(f"{breaker.requests} requests are under way, its breaker's bound; try again later")
        now = time.monotonic()
        usable = [each for each in self._by_address.values() if each.healthy and not each.ejected(now)]
        # All that there are if none stands in for another, or if none of the others is left.
        usable = [each for each in usable if not each.stands_in] or usable
        others = [each for each in usable if each not in tried] if tried else usable
        taken = self._next(others or usable, now)
        if taken is not None:
            taken.in_flight += 1
            self.budget.in_flight += 1
        return taken

    def _next(self, usable: list[Replica], now: float) -> Replica | None:
        if not usable:
            return None
        shares = [each.share(now, self.policy.slow_start_s) for each in usable]
        if min(shares) < 1:
            return random.choices(usable, shares)[0]  # noqa: S311 (nothing secret)
        self._turn += 1
        return usable[self._turn % len(usable)]

    def may_eject_one(self) -> bool:
        """Whether one more replica may be out."""
        now, outliers = time.monotonic(), self.policy.outliers
        out = 1 + sum(each.ejected(now) for each in self._by_address.values())
        return outliers is not None and out * 100 <= outliers.at_most * len(self._by_address)

    async def connect(
        self,
        addresses: Collection[str],
        standby: Collection[str],
        timeout_s: float,
        peer: str = MODEL,
        standby_peer: str = MODEL,
    ) -> dict[str, Replica]:
        """Ways to all of these: those that there are, and new ones that are connected, if they can be in time."""
        known = self._by_address
        wanted: dict[str, Replica] = {}
        for address in (*addresses, *standby):
            stands_in = address in standby and address not in addresses
            its = standby_peer if stands_in else peer
            before = known.get(address)
            is_known = before is not None and before.peer == its
            each = before if before is not None and is_known else Replica(address, self, self._channels, its)
            each.stands_in = stands_in
            wanted[address] = each
        new = [each for address, each in wanted.items() if each is not known.get(address)]
        if known:
            for each in new:
                each.since = time.monotonic()
        await asyncio.gather(*(each.channel.try_connect(timeout_s) for each in new))
        return wanted

    def put_in_force(self, replicas: dict[str, Replica]) -> list[Replica]:
        """These get requests from now on; returns those that do no longer."""
        gone = [each for address, each in self._by_address.items() if each is not replicas.get(address)]
        self._by_address = replicas
        return gone

    def all(self) -> list[Replica]:
        """All that there are."""
        return list(self._by_address.values())
