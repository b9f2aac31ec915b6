"""Leases: decisions that may be reused, for which requests and until when; and the watch for new revisions.

:class:`Leases` are pure: times are handed in, in seconds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc.aio

from lab.errors import UnitError
from lab.transport import set_within
from models.proto.control.v1 import resolver_pb2, resolver_pb2_grpc

if TYPE_CHECKING:
    from lab.client.resolver import ResolvedDecision

CAPACITY = 10_000

LeaseKey = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lease:
    """A decision that may be reused.

    Attributes:
        decision: the resolver's.
        fresh_until: from then on the resolver is asked again.
        usable_until: until then it may be used while the resolver cannot be reached.
    """

    decision: ResolvedDecision
    fresh_until: float
    usable_until: float


def lease_key(use_case: str, reads: tuple[str, ...], context: Mapping[str, str]) -> LeaseKey:
    """Key that requests share if they get the same decision: the use case, and the values that its rules read."""
    return (use_case, *[context.get(field, "") for field in reads])


class Leases:
    """All leases of one client, all of one revision: a new revision ends them.

    Args:
        capacity: leases held at once; beyond it the least recently used one goes.

    Attributes:
        revision: of all leases; 0 at first.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self.revision = 0
        self._reads: dict[str, tuple[str, ...]] = {}
        self._leases: OrderedDict[LeaseKey, Lease] = OrderedDict()

    def __len__(self) -> int:
        return len(self._leases)

    def key(self, use_case: str, context: Mapping[str, str]) -> LeaseKey | None:
        """Key of the lease that a request would use; None as long as it is not known what the rules read."""
        reads = self._reads.get(use_case)
        return None if reads is None else lease_key(use_case, reads, context)

    def find(self, key: LeaseKey | None) -> Lease | None:
        """The lease with this key, fresh or not; None if there is none."""
        if key is None or (lease := self._leases.get(key)) is None:
            return None
        self._leases.move_to_end(key)
        return lease

    def grant(self, use_case: str, context: Mapping[str, str], decision: ResolvedDecision, *, now: float) -> bool:
        """Keeps a decision for requests like this one; a newer revision ends the leases of earlier ones.

        Returns:
            False if a newer revision is known already: the decision is outdated and not kept.
        """
        if decision.revision < self.revision:
            return False
        self.advance(decision.revision)
        if self._reads.get(use_case) != decision.reads:
            self._forget_use_case(use_case)
            self._reads[use_case] = decision.reads
        key = lease_key(use_case, decision.reads, context)
        self._leases[key] = Lease(decision, now + decision.ttl_s, now + max(decision.ttl_s, decision.max_stale_s))
        self._leases.move_to_end(key)
        if len(self._leases) > self._capacity:
            self._leases.popitem(last=False)
        return True

    def advance(self, revision: int) -> None:
        """Ends the leases of earlier revisions."""
        if revision > self.revision:
            self.follow(revision)

    def follow(self, revision: int) -> None:
        """Ends the leases of all other revisions: the resolver was just reached, and may hold an older one."""
        if revision != self.revision:
            self.revision = revision
            self._leases.clear()

    def end_all(self) -> None:
        """Ends every lease."""
        self._leases.clear()

    def drop(self, key: LeaseKey | None) -> None:
        """Ends one lease."""
        if key is not None:
            self._leases.pop(key, None)

    def _forget_use_case(self, use_case: str) -> None:
        for key in [key for key in self._leases if key[0] == use_case]:
            del self._leases[key]


_RECONNECT_PAUSE_S = 0.1
# Two requests to hold fit into one hold, so that a late one does no harm.
_ASK_EVERY_S = 0.4
# A client that makes no requests needs no hold; its next request asks the resolver, and for a hold again.
_IDLE_AFTER_S = 5.0
# The resolver counts a hold by its own clock, which may run slower.
_OF_A_HOLD = 0.9

_log = logging.getLogger(__name__)


class Watch:
    """Follows the resolver's revisions until it is closed. Needs a running event loop.

    Leases may be used without asking for as long as the resolver promises to put no other revision in force: a *hold*,
    which counts from when this client asked for it. So a process that was stopped, or gets no processor, does not use
    decisions of which it cannot know that they ended. A client that has not used its leases for a while asks for no
    hold until it does.

    Args:
        channel: to the resolver.
        leases: ended by new revisions.

    Attributes:
        holds_until: when the hold ends, by the monotonic clock; from then on leases count as stale.
        cut_off: whether the resolver is known not to answer; set by who asks it, until it is heard again.
        used_at: when leases were last looked up, by the monotonic clock; set by who does.
    """

    def __init__(self, channel: grpc.aio.Channel, leases: Leases) -> None:
        self.holds_until = 0.0
        self.cut_off = False
        self.used_at = time.monotonic()
        self._stub = resolver_pb2_grpc.ResolverStub(channel)
        self._leases = leases
        self._held = asyncio.Event()
        self._ask = asyncio.Event()
        self._idle = False
        self._task = asyncio.create_task(self._run())

    async def ready(self, timeout_s: float) -> None:
        """Returns once the resolver has announced a revision and leases may be used.

        Raises:
            UnitError: it has announced none in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._held.wait()
        except TimeoutError:
            raise UnitError(f"the resolver has announced no revision within {timeout_s:g} s") from None

    def ask(self) -> None:
        """Asks for a hold at once, if none was asked for because none was needed."""
        if self._idle:
            self._ask.set()

    async def close(self) -> None:
        """Closes the stream."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            reason = "closed by the resolver"
            try:
                await self._follow()
            except grpc.aio.AioRpcError as error:
                reason = error.details() or error.code().name
                if error.code() is grpc.StatusCode.ABORTED:
                    self._leases.end_all()
            except asyncio.InvalidStateError:
                reason = "the stream ended before a revision could be acknowledged"
            if self._held.is_set():
                self._held.clear()
                _log.warning("watch of the resolver lost: %s", reason)
            self.holds_until = 0.0
            await asyncio.sleep(_RECONNECT_PAUSE_S)

    async def _follow(self) -> None:
        stream = self._stub.Watch(wait_for_ready=True)
        asking: asyncio.Task[None] | None = None
        try:
            await stream.write(resolver_pb2.WatchRequest(revision=self._leases.revision))
            async for response in stream:
                self.cut_off = False
                if asking is None:
                    self._leases.follow(response.revision)
                    _log.info("the resolver holds revision %d", response.revision)
                    asking = asyncio.create_task(self._keep_asking(stream))
                elif not response.sent:
                    self._leases.advance(response.revision)
                    self._ask.set()
                else:
                    hold_s = response.hold.ToMicroseconds() / 1e6
                    self.holds_until = response.sent + hold_s * _OF_A_HOLD
                    self._held.set()
        finally:
            if asking is not None:
                asking.cancel()
            stream.cancel()

    async def _keep_asking(self, stream: grpc.aio.StreamStreamCall[Any, Any]) -> None:
        """Acknowledges the revision and asks for a hold, time and again while leases are used, at each new revision."""
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # the reader sees why the stream has ended
            while True:
                self._ask.clear()
                request = resolver_pb2.WatchRequest(revision=self._leases.revision, sent=time.monotonic())
                await stream.write(request)
                self._idle = time.monotonic() > self.used_at + _IDLE_AFTER_S
                await (self._ask.wait() if self._idle else set_within(self._ask, _ASK_EVERY_S))
                self._idle = False
