"""Requests of one routing key that wait until one of its replicas has room, for pickers that let them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

from lab.pickers import offered
from services.gateway.picks import LEFT, NO_ATTEMPT, QUEUE_FULL, WAITED_TOO_LONG
from services.gateway.request import FullError, LateError

if TYPE_CHECKING:
    from lab.pickers import Queues, Seen
    from services.gateway.channel_pool import Connection
    from services.gateway.picks import Picking
    from services.gateway.request import GatewayRequest

_LEAST_POLL_S = 0.01
_COUNTED_POLL_S = 0.05


class Group(Protocol):
    """The replicas of a routing key, as their queue needs them."""

    def seen(self) -> dict[str, Seen]:
        """Those that may be picked, as the picker sees them, by address."""

    def take(
        self, tried: Collection[object], request: GatewayRequest, saw: dict[str, Seen], queued: int = 0
    ) -> Connection | None:
        """The one that the picker picks of those that it saw."""


class _Waiter:
    """A request that waits, and what it waits for: its replica, or None if there is none any more."""

    __slots__ = ("limit", "replica", "request", "tried")

    def __init__(self, tried: Collection[object], request: GatewayRequest) -> None:
        self.tried, self.request = tried, request
        self.replica: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self.limit: asyncio.TimerHandle | None = None


class PickQueue:
    """The queue in front of a routing key's replicas; their picker's chooser orders it.

    It looks for room when a request comes and when an attempt ends. While requests wait, it also does so as often as
    the signal is read, as room that others leave shows only there.

    Args:
        replicas: among which is picked.
        chooser: of the picker.
        picking: the signal, and the log of picks.
        group: number of the chooser in the log.
        policy: name of the picker.
    """

    def __init__(self, replicas: Group, chooser: Queues, picking: Picking, group: int, policy: str) -> None:
        self._replicas, self._chooser, self._signal, self._log = replicas, chooser, picking.signal, picking.log
        self._group, self._policy = group, policy
        self._waiting: dict[int, _Waiter] = {}
        self._polling: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        """Whether a request that comes now need not wait."""
        return not self._waiting and not self._is_saturated(self._replicas.seen())

    async def take(self, tried: Collection[object], request: GatewayRequest) -> Connection | None:
        """Returns the replica that the picker picks, once one has room, with one more attempt in flight.

        Returns:
            None if no replica is healthy, or another queue has taken this one's place.

        Raises:
            FullError: the request is shed, or the circuit breaker's bound is reached; the message has the reason.
            LateError: the use case's timeout has passed.
        """
        self._dispatch()
        saw = self._replicas.seen()
        if not self._waiting and not self._is_saturated(saw):
            return self._replicas.take(tried, request, saw)
        asked, waiter = request.read(), _Waiter(tried, request)
        number = self._log.wait(self._group, self._policy, asked, [*saw.values()])
        self._waiting[number] = waiter
        limit_s, left_s = self._chooser.limit_s(asked), request.remaining_s()
        end, after_s = (self._shed_late, limit_s) if limit_s < left_s else (self._time_out, left_s)
        waiter.limit = asyncio.get_running_loop().call_later(after_s, end, number, after_s)
        if shed := self._chooser.join(number, asked):
            text = f"shed ({QUEUE_FULL}): {len(self._waiting) - 1} requests wait for a replica with room"
            self._end(shed, QUEUE_FULL, saw, FullError(text))
        self._poll()
        try:
            return await waiter.replica
        except asyncio.CancelledError:
            replica = waiter.replica
            if number in self._waiting:
                self._chooser.leave(number)
                self._end(number, LEFT, saw)
            elif not replica.cancelled() and not replica.exception() and (got := replica.result()) is not None:
                got.release(None, request)  # its caller has left since the pick
            raise

    def dispatch_soon(self) -> None:
        """Looks for room once the attempt that ends now has been counted out."""
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._dispatch)

    def close(self) -> None:
        """Lets all that wait go without a replica, as another queue takes this one's place."""
        for number in [*self._waiting]:
            self._chooser.leave(number)
            self._end(number, LEFT, {})

    def _is_saturated(self, saw: dict[str, Seen]) -> bool:
        if not saw:
            return False
        return not self._chooser.has_room(offered([*saw.values()], self._signal.stale, self._signal.stale_ms))

    def _dispatch(self) -> None:
        """Lets requests go in the chooser's order, while a replica has room, or if there is none at all."""
        while self._waiting and not self._is_saturated(saw := self._replicas.seen()):
            number = self._chooser.next()
            waiter = self._waiting[number]
            if not saw or waiter.replica.done():
                self._end(number, NO_ATTEMPT, saw)
                continue
            try:
                picked = self._replicas.take(waiter.tried, waiter.request, saw, number)
            except FullError as full:
                self._end(number, NO_ATTEMPT, saw, full)
                continue
            self._forget(number)
            waiter.replica.set_result(picked)

    def _poll(self) -> None:
        """Looks for room again when the signal has been read again."""
        if self._polling is None:
            after_s = max(_LEAST_POLL_S, self._signal.age_s or _COUNTED_POLL_S)
            self._polling = asyncio.get_running_loop().call_later(after_s, self._poll_again)

    def _poll_again(self) -> None:
        self._polling = None
        self._dispatch()
        if self._waiting:
            self._poll()

    def _shed_late(self, number: int, after_s: float) -> None:
        text = f"shed ({WAITED_TOO_LONG}): no replica had room for it in {1_000 * after_s:.0f} ms"
        self._end_late(number, WAITED_TOO_LONG, FullError(text))

    def _time_out(self, number: int, after_s: float) -> None:
        text = f"no answer within {1_000 * self._waiting[number].request.attempts.timeout_s:.0f} ms, of which it waited"
        self._end_late(number, LEFT, LateError(f"{text} {1_000 * after_s:.0f} ms for a replica with room"))

    def _end_late(self, number: int, outcome: str, error: FullError) -> None:
        self._dispatch()
        if number in self._waiting:
            self._chooser.leave(number)
            self._end(number, outcome, self._replicas.seen(), error)

    def _end(self, number: int, outcome: str, saw: dict[str, Seen], error: FullError | None = None) -> None:
        """Ends the wait of a request without a replica."""
        self._log.end_wait(number, outcome, [*saw.values()])
        replica = self._forget(number).replica
        if replica.done():
            return
        if error is None:
            replica.set_result(None)
        else:
            replica.set_exception(error)

    def _forget(self, number: int) -> _Waiter:
        waiter = self._waiting.pop(number)
        if waiter.limit is not None:
            waiter.limit.cancel()
        return waiter
