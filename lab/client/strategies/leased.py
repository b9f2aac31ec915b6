"""Reuses the resolver's decisions while their leases hold, and sends to a proxy that routes on the header."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from lab.client.encoding import whole
from lab.client.leases import Lease, LeaseKey, Leases, lease_key
from lab.client.resolver import RESOLVE_TIMEOUT_S
from lab.client.watch import Watch
from lab.errors import CallError, ResolverUnreachableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.client.decisions import ResolvedDecision
    from lab.client.encoding import Encode
    from lab.client.resolver import ResolverClient
    from lab.client.rpc_channel import RpcChannel
    from lab.routing.attempts import Decision, RequestAttempts

# A request that has a stale lease to fall back on waits less for a fresh one, and the next ones do not ask at once.
_RENEW_TIMEOUT_S = 0.25
_RENEW_PAUSE_S = 0.1
# How often a request joins a shared question: again if a newer revision overtook the answer, or if the answer was for
# other values of what the rules read.
_SHARED_LIMIT = 4


class Leased:
    """Reuses decisions for as long as their leases say; a revision that the resolver announces ends them at once.

    Needs a running event loop.

    Args:
        resolver: decides.
        channel: to a proxy, or a gRPC library, that routes on the header.
        encode: form of the requests.

    Attributes:
        watch: hears of new revisions.
    """

    def __init__(self, resolver: ResolverClient, channel: RpcChannel, *, encode: Encode = whole) -> None:
        self.resolver, self.channel, self.encode = resolver, channel, encode
        self._leases = Leases()
        self.watch = Watch(resolver.channel, self._leases)
        self._questions: dict[LeaseKey, asyncio.Task[tuple[ResolvedDecision, LeaseKey]]] = {}
        self._renew_not_before = 0.0

    async def decide(self, attempts: RequestAttempts, context: Mapping[str, str]) -> tuple[RpcChannel, Decision]:
        """The one channel, and a decision that is leased or fresh; after a tear a fresh one."""
        leases = self._leases
        key = leases.key(attempts.use_case, context)
        if attempts.torn:
            leases.drop(key)
        lease = leases.find(key)
        if lease is not None and self.watch.holds and time.monotonic() < lease.fresh_until:
            return self.channel, lease.decision
        return self.channel, await self._renew(attempts, context, lease)

    async def _renew(
        self, attempts: RequestAttempts, context: Mapping[str, str], lease: Lease | None
    ) -> ResolvedDecision:
        now = time.monotonic()
        if lease is None or now >= lease.usable_until:
            return await self._resolve_together(attempts, context, RESOLVE_TIMEOUT_S)
        if now < self._renew_not_before:
            return lease.decision
        try:
            return await self._resolve_together(attempts, context, _RENEW_TIMEOUT_S)
        except ResolverUnreachableError:
            self._renew_not_before = time.monotonic() + _RENEW_PAUSE_S
            # A revision may have ended the lease while the question was in flight.
            if lease.decision.revision < self._leases.revision:
                raise
            return lease.decision

    async def _resolve_together(
        self, attempts: RequestAttempts, context: Mapping[str, str], timeout_s: float
    ) -> ResolvedDecision:
        """Resolves and keeps the lease; requests that would get the same decision share the first one's question."""
        use_case = attempts.use_case
        for _ in range(_SHARED_LIMIT):
            # As long as it is not known what the rules read, one request finds out and the others wait for it. A pinned
            # request asks by itself, as it may be refused where the others are not.
            key = self._leases.key(use_case, context) or (use_case, context.get("override", ""))
            question = self._questions.get(key)
            if question is None:
                question = asyncio.create_task(self._resolve_and_keep(attempts, dict(context), timeout_s))
                self._questions[key] = question
                question.add_done_callback(partial(self._answered, key))
            # A request that is cancelled must not take the answer away from the others.
            decision, asker = await asyncio.shield(question)
            overtaken = decision.revision < self._leases.revision
            if not overtaken and asker == lease_key(use_case, decision.reads, context):
                return decision
        return await self.resolver.resolve(attempts, context, timeout_s)

    async def _resolve_and_keep(
        self, attempts: RequestAttempts, context: Mapping[str, str], timeout_s: float
    ) -> tuple[ResolvedDecision, LeaseKey]:
        use_case = attempts.use_case
        try:
            decision = await self.resolver.resolve(attempts, context, timeout_s)
        except ResolverUnreachableError:
            raise
        except CallError:
            self._leases.drop(self._leases.key(use_case, context))
            raise
        self._leases.grant(use_case, context, decision, now=time.monotonic())
        return decision, lease_key(use_case, decision.reads, context)

    def _answered(self, key: LeaseKey, question: asyncio.Task[tuple[ResolvedDecision, LeaseKey]]) -> None:
        del self._questions[key]
        if not question.cancelled():
            question.exception()  # the requests that wait have seen it; if none waits any more, it is of no interest

    async def ready(self, timeout_s: float) -> None:
        """Returns once the channel is connected and the resolver has announced its revision."""
        await asyncio.gather(self.channel.ready(timeout_s), self.watch.ready(timeout_s))

    async def close(self) -> None:
        """Closes the channels to models and resolver."""
        for question in list(self._questions.values()):
            question.cancel()
        await self.watch.close()
        await asyncio.gather(self.channel.close(), self.resolver.close())
