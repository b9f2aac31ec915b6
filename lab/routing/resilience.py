"""A use case's resilience settings as values, and the budget of retries and hedges that they allow; sends nothing.

Gateways load this module: it imports only the standard library.

A policy belongs to a model version, as replicas of versions are what fails: it applies to all versions that may answer
the use case. Use cases that share a version must agree (``checks``), so a version has one policy.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from lab.routing.durations import seconds

SETTINGS = ("retries", "hedge", "outliers", "breaker", "health", "slow_start")
RETRIABLE = ("unavailable", "resource-exhausted", "internal")
"""Statuses worth a retry, by Envoy's names."""

_SETTINGS = frozenset(SETTINGS)


# The settings of a route table by the same names, see ``schema``; durations are in seconds, and 0 means none.


@dataclass(frozen=True, slots=True)
class Retries:
    """Retries of failed attempts, on statuses of :data:`RETRIABLE`."""

    attempts: int = 2
    on: tuple[str, ...] = ("unavailable",)
    budget: int = 20
    at_least: int = 0
    backoff_s: float = 0.025
    per_try_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Hedge:
    """A second attempt beside a slow first one; the first answer counts, and the other attempt is cancelled."""

    after_s: float
    budget: int = 20
    at_least: int = 0


@dataclass(frozen=True, slots=True)
class Outliers:
    """Ejection of replicas that fail repeatedly."""

    errors: int = 5
    eject_s: float = 10.0
    at_most: int = 50


@dataclass(frozen=True, slots=True)
class Breaker:
    """Limits of one sidecar or gateway on requests in flight to a model version."""

    requests: int = 0
    connections: int = 0
    pending: int = 0


@dataclass(frozen=True, slots=True)
class Health:
    """Active health checks."""

    every_s: float = 1.0
    unhealthy: int = 2


@dataclass(frozen=True, slots=True)
class Policy:
    """All resilience settings of a use case; settings left out are off.

    Attributes:
        slow_start_s: time over which a new replica's share grows, seconds; 0 for the full share at once.
    """

    retries: Retries | None = None
    hedge: Hedge | None = None
    outliers: Outliers | None = None
    breaker: Breaker | None = None
    health: Health | None = None
    slow_start_s: float = 0.0

    @classmethod
    def of(cls, use_case: Mapping[str, Any]) -> Policy | None:
        """The policy of a use case's entry in the route table; None if it has no settings."""
        if _SETTINGS.isdisjoint(use_case):
            return None
        return cls(
            **{name: _read(kind, use_case[name]) for name, kind in _KINDS.items() if name in use_case},
            slow_start_s=seconds(use_case.get("slow_start", "0s")),
        )

    @property
    def repeats(self) -> int:
        """How often a request may be sent again to the version, by a retry or a hedge."""
        return self.retries.attempts - 1 if self.retries is not None else int(self.hedge is not None)

    def setting(self, name: str) -> object:
        """The setting of this name, of :data:`SETTINGS`."""
        return self.slow_start_s if name == "slow_start" else getattr(self, name)


def has_settings(use_case: Mapping[str, Any]) -> bool:
    """Whether a use case's entry in the route table has any settings."""
    return not _SETTINGS.isdisjoint(use_case)


_KINDS = {"retries": Retries, "hedge": Hedge, "outliers": Outliers, "breaker": Breaker, "health": Health}


def _read(kind: Any, part: Mapping[str, Any]) -> Any:
    """A setting of the route table as a value; fields that end with ``_s`` are durations there."""
    found = {}
    for each in fields(kind):
        name = each.name.removesuffix("_s")
        if name in part:
            value = part[name]
            is_list = isinstance(value, (list, tuple))
            found[each.name] = seconds(value) if name != each.name else tuple(sorted(value)) if is_list else value
    return kind(**found)


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
