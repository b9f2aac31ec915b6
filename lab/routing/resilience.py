"""A use case's resilience settings as values. Gateways load this module: it imports only the standard library.

A policy belongs to a model version, as replicas of versions are what fails: it applies to all versions that may answer
the use case. Use cases that share a version must agree (``checks``), so a version has one policy.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from lab.routing.durations import seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

SETTINGS = ("retries", "hedge", "outliers", "breaker", "health", "slow_start")
RETRIABLE = ("unavailable", "resource-exhausted", "internal")
"""Statuses worth a retry, by Envoy's names."""

_SETTINGS = frozenset(SETTINGS)


@dataclass(frozen=True, slots=True)
class Retries:
    """Retries of failed attempts.

    Attributes:
        attempts: maximum number of attempts per request, the first included.
        on: statuses that are retried, of :data:`RETRIABLE`.
        budget: maximum retries in flight, as a percentage of first attempts in flight.
        at_least: number of retries in flight that are always allowed.
        backoff_s: maximum pause before the second attempt, seconds; it doubles with each further attempt, with full
            jitter.
        per_try_s: timeout of one attempt, seconds; 0 for none.
    """

    attempts: int = 2
    on: tuple[str, ...] = ("unavailable",)
    budget: int = 20
    at_least: int = 0
    backoff_s: float = 0.025
    per_try_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Hedge:
    """A second attempt beside a slow first one; the first answer counts, and the other attempt is cancelled.

    Attributes:
        after_s: delay before the second attempt, seconds.
        budget: see :class:`Retries`.
        at_least: see :class:`Retries`.
    """

    after_s: float
    budget: int = 20
    at_least: int = 0


@dataclass(frozen=True, slots=True)
class Outliers:
    """Ejection of replicas that fail repeatedly.

    Attributes:
        errors: number of consecutive failures that eject a replica.
        eject_s: duration of the ejection, seconds.
        at_most: maximum percentage of ejected replicas.
    """

    errors: int = 5
    eject_s: float = 10.0
    at_most: int = 50


@dataclass(frozen=True, slots=True)
class Breaker:
    """Limits of one sidecar or gateway on requests in flight to a model version; 0 for none."""

    requests: int = 0
    connections: int = 0
    pending: int = 0


@dataclass(frozen=True, slots=True)
class Health:
    """Active health checks.

    Attributes:
        every_s: interval of checks, and timeout of one, seconds.
        unhealthy: number of consecutive failures after which a replica gets no requests, until a check succeeds.
    """

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
