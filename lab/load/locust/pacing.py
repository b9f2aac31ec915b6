"""When users' requests are due. Pure: whoever asks says what time it is.

Sequence numbers are dealt out like cards: of n workers, the one with index i has i, i + n, i + 2n, … So they are unique
among the workers without a word between them, and together without a gap where there is a schedule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from random import Random

    from lab.load.arrivals import Schedule, Share

NS = 1_000_000_000


class DueRequest(NamedTuple):
    """One request to come.

    Attributes:
        sequence: of the request.
        intended_ns: when it is due, of ``time.monotonic_ns``; latency counts from here.
        payload_bytes: of its request; None leaves it to the plan.
    """

    sequence: int
    intended_ns: int
    payload_bytes: int | None = None


class SequenceNumbers:
    """The sequence numbers of one worker's share."""

    def __init__(self, share: Share) -> None:
        self._next, self._step = share.first, share.step

    def take(self) -> int:
        """The next one."""
        sequence = self._next
        self._next += self._step
        return sequence


class Pacing(Protocol):
    """Tells one user when its requests are due."""

    def next_request(self, now_ns: int) -> DueRequest | None:
        """The next request; None if there is none left to send."""


class ScheduledPacing:
    """A worker's share of a schedule: whichever of its users is free takes the next request, also one that is late.

    The times are those of the schedule, whatever became of earlier requests. So a stall shows in all requests that had
    to wait for it, and users that are held up hold no other's requests up.

    Args:
        schedule: the share.
        start_ns: start of the schedule.
    """

    def __init__(self, schedule: Schedule, start_ns: int) -> None:
        self._schedule, self._numbers, self._start_ns = schedule, SequenceNumbers(schedule.share), start_ns
        self._place = 0

    def next_request(self, now_ns: int) -> DueRequest | None:
        """See :class:`Pacing`."""
        del now_ns
        place, schedule = self._place, self._schedule
        if place == len(schedule):
            return None
        self._place += 1
        return DueRequest(
            self._numbers.take(), self._start_ns + schedule.offsets_ns[place], schedule.payload_bytes[place]
        )


class RatePacing:
    """A user's own: one request every so many seconds, from a random moment of the first interval on.

    A request that takes longer than the interval makes the next one late, not due later.

    Args:
        numbers: numbers the requests.
        interval_ns: between two requests.
        draw: of the first moment.
    """

    def __init__(self, numbers: SequenceNumbers, interval_ns: int, draw: Random) -> None:
        self._numbers, self._interval_ns = numbers, interval_ns
        self._first_in_ns = int(draw.random() * interval_ns)
        self._due_ns = 0

    def next_request(self, now_ns: int) -> DueRequest:
        """See :class:`Pacing`."""
        self._due_ns = self._due_ns + self._interval_ns if self._due_ns else now_ns + self._first_in_ns
        return DueRequest(self._numbers.take(), self._due_ns)


class ClosedLoopPacing:
    """A user that waits as long as it likes after each answer: a request is due when its wait has ended.

    Args:
        numbers: numbers the requests.
    """

    def __init__(self, numbers: SequenceNumbers) -> None:
        self._numbers = numbers
        self._wait_ends_ns = 0

    def waits(self, now_ns: int, seconds: float) -> None:
        """The user begins to wait."""
        self._wait_ends_ns = now_ns + round(seconds * NS)

    def next_request(self, now_ns: int) -> DueRequest:
        """See :class:`Pacing`. A request that follows another without a wait is due at once."""
        due_ns, self._wait_ends_ns = self._wait_ends_ns or now_ns, 0
        return DueRequest(self._numbers.take(), min(due_ns, now_ns))
