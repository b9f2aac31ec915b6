"""Which replicas were registered, and when: evidence for checkers, kept in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

_MOST_ENDED = 10_000


@dataclass(frozen=True, slots=True)
class Registration:
    """One registration of a replica; times are Unix nanoseconds, ``ended_ns`` is None while it lasts."""

    cluster: str
    replica: str
    began_ns: int
    ended_ns: int | None = None


class RegistrationLog:
    """The registrations that this process knows of; of those that have ended, the latest :data:`_MOST_ENDED`.

    Args:
        now_ns: the clock, Unix nanoseconds.

    Attributes:
        since_ns: all registrations since then are known.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self.since_ns = now_ns()
        self._lasting: dict[tuple[str, str], Registration] = {}
        self._ended: deque[Registration] = deque()

    @property
    def registrations(self) -> list[Registration]:
        """All that are known, those that have ended first."""
        return [*self._ended, *self._lasting.values()]

    def begin(self, cluster: str, replica: str) -> None:
        """Adds a replica that has registered, unless it was registered before."""
        self._lasting.setdefault((cluster, replica), Registration(cluster, replica, self._now_ns()))

    def end(self, cluster: str, replica: str) -> None:
        """Ends the registration of a replica that has left."""
        registration = self._lasting.pop((cluster, replica))
        ended_ns = self._now_ns()
        self._ended.append(Registration(cluster, replica, registration.began_ns, ended_ns))
        if len(self._ended) > _MOST_ENDED:
            self.since_ns = self._ended.popleft().ended_ns or self.since_ns
