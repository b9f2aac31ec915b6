"""A use case's resilience settings as values. Gateways load this module: it imports only the standard library.

A policy belongs to a model version, as replicas of versions are what fails: it applies to all versions that may answer
the use case. Use cases that share a version must agree (``resilience_checks``), so a version has one policy.
"""

from __future__ import annotations

from dataclasses import dataclass
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

    attempts: int
    on: tuple[str, ...]
    budget: int
    at_least: int
    backoff_s: float
    per_try_s: float


@dataclass(frozen=True, slots=True)
class Hedge:
    """A second attempt beside a slow first one; the first answer counts, and the other attempt is cancelled.

    Attributes:
        after_s: delay before the second attempt, seconds.
        budget: see :class:`Retries`.
        at_least: see :class:`Retries`.
    """

    after_s: float
    budget: int
    at_least: int


@dataclass(frozen=True, slots=True)
class Outliers:
    """Ejection of replicas that fail repeatedly.

    Attributes:
        errors: number of consecutive failures that eject a replica.
        eject_s: duration of the ejection, seconds.
        at_most: maximum percentage of ejected replicas.
    """

    errors: int
    eject_s: float
    at_most: int


@dataclass(frozen=True, slots=True)
class Breaker:
    """Limits of one sidecar or gateway on requests in flight to a model version; 0 for none."""

    requests: int
    connections: int
    pending: int


@dataclass(frozen=True, slots=True)
class Health:
    """Active health checks.

    Attributes:
        every_s: interval of checks, and timeout of one, seconds.
        unhealthy: number of consecutive failures after which a replica gets no requests, until a check succeeds.
    """

    every_s: float
    unhealthy: int


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
        get = use_case.get
        return cls(
            retries=_retries(get("retries")),
            hedge=_hedge(get("hedge")),
            outliers=_outliers(get("outliers")),
            breaker=_breaker(get("breaker")),
            health=_health(get("health")),
            slow_start_s=seconds(get("slow_start", "0s")),
        )

    def setting(self, name: str) -> object:
        """The setting of this name, of :data:`SETTINGS`."""
        return self.slow_start_s if name == "slow_start" else getattr(self, name)


def has_settings(use_case: Mapping[str, Any]) -> bool:
    """Whether a use case's entry in the route table has any settings."""
    return not _SETTINGS.isdisjoint(use_case)


def _retries(part: Mapping[str, Any] | None) -> Retries | None:
    if part is None:
        return None
    return Retries(
        attempts=part.get("attempts", 2),
        on=tuple(sorted(part.get("on", ("unavailable",)))),
        budget=part.get("budget", 20),
        at_least=part.get("at_least", 0),
        backoff_s=seconds(part.get("backoff", "25ms")),
        per_try_s=seconds(part.get("per_try", "0s")),
    )


def _hedge(part: Mapping[str, Any] | None) -> Hedge | None:
    if part is None:
        return None
    return Hedge(seconds(part["after"]), part.get("budget", 20), part.get("at_least", 0))


def _outliers(part: Mapping[str, Any] | None) -> Outliers | None:
    if part is None:
        return None
    return Outliers(part.get("errors", 5), seconds(part.get("eject", "10s")), part.get("at_most", 50))


def _breaker(part: Mapping[str, Any] | None) -> Breaker | None:
    if part is None:
        return None
    return Breaker(part.get("requests", 0), part.get("connections", 0), part.get("pending", 0))


def _health(part: Mapping[str, Any] | None) -> Health | None:
    if part is None:
        return None
    return Health(seconds(part.get("every", "1s")), part.get("unhealthy", 2))
