"""When users' requests are due: pure, the caller supplies the time.

Of n workers, the one with index i uses the sequence numbers i, i + n, i + 2n, … They are unique without coordination,
and contiguous if the run has a schedule.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from lab.load.arrivals import Schedule, Share

NS = 1_000_000_000


class DueRequest(NamedTuple):
    """The next request of a user.

    Attributes:
        sequence: its sequence number.
        intended_ns: when it is due, on ``time.monotonic_ns``; latency counts from here.
        payload_bytes: its size; None for the plan's.
    """

    sequence: int
    intended_ns: int
    payload_bytes: int | None = None


def sequence_numbers(share: Share) -> Iterator[int]:
    """The sequence numbers of one worker."""
    return itertools.count(share.first, share.step)


class Pacing(Protocol):
    """Decides when one user's requests are due."""

    def next_request(self, now_ns: int) -> DueRequest | None:
        """The next request; None if none is left."""


class ScheduledPacing:
    """Paces by a worker's share of a schedule: the next free user takes the next request, even a late one.

    The times are the schedule's. A stall therefore shows in all requests that waited for it, and blocked users do not
    delay the requests of others.

    Args:
        schedule: the share.
        start_ns: start of the schedule.
    """

    def __init__(self, schedule: Schedule, start_ns: int) -> None:
        self._schedule, self._numbers, self._start_ns = schedule, sequence_numbers(schedule.share), start_ns
        self._place = 0

    def next_request(self, now_ns: int) -> DueRequest | None:
        """See :class:`Pacing`."""
        del now_ns
        place, schedule = self._place, self._schedule
        if place == len(schedule):
            return None
        self._place += 1
        return DueRequest(
            next(self._numbers), self._start_ns + schedule.offsets_ns[place], schedule.payload_bytes[place]
        )


class RatePacing:
    """Paces one user at a constant rate, from a random moment of the first interval on.

    A request that takes longer than the interval makes the next one late; it does not move its due time.

    Args:
        numbers: sequence numbers.
        interval_ns: between two requests.
        draw: draws the first moment.
    """

    def __init__(self, numbers: Iterator[int], interval_ns: int, draw: Random) -> None:
        self._numbers, self._interval_ns = numbers, interval_ns
        self._first_in_ns = int(draw.random() * interval_ns)
        self._due_ns = 0

    def next_request(self, now_ns: int) -> DueRequest:
        """See :class:`Pacing`."""
        self._due_ns = self._due_ns + self._interval_ns if self._due_ns else now_ns + self._first_in_ns
        return DueRequest(next(self._numbers), self._due_ns)


class ClosedLoopPacing:
    """Paces by the user's own wait time after each answer: a request is due when the wait ends.

    Args:
        numbers: sequence numbers.
    """

    def __init__(self, numbers: Iterator[int]) -> None:
        self._numbers = numbers
        self._wait_ends_ns = 0

    def waits(self, now_ns: int, seconds: float) -> None:
        """The user starts to wait."""
        self._wait_ends_ns = now_ns + round(seconds * NS)

    def next_request(self, now_ns: int) -> DueRequest:
        """See :class:`Pacing`. A request right after another, without a wait, is due at once."""
        due_ns, self._wait_ends_ns = self._wait_ends_ns or now_ns, 0
        return DueRequest(next(self._numbers), min(due_ns, now_ns))
