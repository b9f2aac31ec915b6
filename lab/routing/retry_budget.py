"""Retries and hedges of one model version: when they are made, and how many there may be at once. Sends nothing."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.routing.resilience import Hedge, Policy, Retries

FALLS_BACK = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL", "UNKNOWN"})
"""gRPC statuses worth a hedge or a fallback. The others are refusals, which another attempt would meet again."""


class RetryBudget:
    """Grants extra attempts, at most a share of the attempts in flight, as Envoy counts them.

    Args:
        policy: of the use cases that the version answers.

    Attributes:
        in_flight: attempts in flight to the version, first and extra ones; counted by those who send.
    """

    __slots__ = ("_extra", "_hedge", "_retriable", "_retries", "in_flight")

    def __init__(self, policy: Policy) -> None:
        self.in_flight = 0
        self._extra = 0
        self._retries, self._hedge = policy.retries, policy.hedge
        on = policy.retries.on if policy.retries is not None else ()
        self._retriable = frozenset(status.replace("-", "_").upper() for status in on)

    def attempt_timeout_s(self, left_s: float) -> float:
        """Time limit of one attempt, seconds, when the request has ``left_s``."""
        retries = self._retries
        return min(left_s, retries.per_try_s) if retries is not None and retries.per_try_s else left_s

    def pause_before_retry(self, status: str, attempts: int, left_s: float) -> float | None:
        """Seconds to wait before the retry that is granted, until :meth:`end`; None if it is not granted.

        Args:
            status: name of the gRPC status of the failed attempt.
            attempts: made at this version.
            left_s: time that the request has left, seconds.
        """
        retries = self._retries
        if retries is None or attempts >= retries.attempts or not left_s:
            return None
        # An attempt that met its own time limit, not the request's.
        late = status == "DEADLINE_EXCEEDED" and retries.per_try_s
        if (status not in self._retriable and not late) or not self._begin(retries):
            return None
        return min(left_s, random.uniform(0, retries.backoff_s * 2 ** (attempts - 1)))  # noqa: S311 (nothing secret)

    def grant_hedge(self, status: str) -> bool:
        """Whether a second attempt may be made beside the first; if so, it is granted until :meth:`end`.

        Args:
            status: how the first has failed; empty if it is only slow.
        """
        hedge = self._hedge
        return hedge is not None and (not status or status in FALLS_BACK) and self._begin(hedge)

    def end(self) -> None:
        """The extra attempt that was granted is over."""
        self._extra -= 1

    def _begin(self, limits: Retries | Hedge) -> bool:
        share = limits.budget / (100 + limits.budget)
        granted = self._extra < max(limits.at_least, int(self.in_flight * share))
        self._extra += granted
        return granted
