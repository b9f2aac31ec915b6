"""What is done about replicas that fail, as a use case has it, compiled. Gateways load it: the standard library alone.

A policy belongs to model versions, as their replicas are what fails: to all that a use case may be answered by. Use
cases that share a version agree in their settings (``resilience_checks``), so it has one policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.routing.durations import seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

SETTINGS = ("retries", "hedge", "outliers", "breaker", "health", "slow_start")
RETRIABLE = ("unavailable", "resource-exhausted", "internal")
"""Statuses that another attempt may mend, by the names that Envoy has for them."""

_SETTINGS = frozenset(SETTINGS)


@dataclass(frozen=True, slots=True)
class Retries:
    """Failed attempts are made again.

    Attributes:
        attempts: how often a request is sent at most.
        on: statuses after which it is sent again, of :data:`RETRIABLE`.
        budget: how many attempts again there may be to a hundred first ones, at any moment.
        at_least: so many at once are allowed always.
        backoff_s: pause before the second attempt, seconds; twice as long before each next, and drawn at random
            between none and all of it.
        per_try_s: an attempt that takes longer is given up, seconds; 0 for none.
    """

    attempts: int
    on: tuple[str, ...]
    budget: int
    at_least: int
    backoff_s: float
    per_try_s: float


@dataclass(frozen=True, slots=True)
class Hedge:
    """A second attempt beside a slow first one; whichever answers first counts, and the other is cancelled.

    Attributes:
        after_s: how long the first is waited for alone, seconds.
        budget: see :class:`Retries`, as is the next.
    """

    after_s: float
    budget: int
    at_least: int


@dataclass(frozen=True, slots=True)
class Outliers:
    """A replica that fails again and again gets no requests for a while.

    Attributes:
        errors: so many failures in a row.
        eject_s: for how long, seconds.
        at_most: percent of the replicas that may be out at once.
    """

    errors: int
    eject_s: float
    at_most: int


@dataclass(frozen=True, slots=True)
class Breaker:
    """Bounds on what one sidecar or gateway has under way to a model version; 0 for none."""

    requests: int
    connections: int
    pending: int


@dataclass(frozen=True, slots=True)
class Health:
    """Replicas are asked whether they serve.

    Attributes:
        every_s: pause between questions, and how long an answer may take, seconds.
        unhealthy: so many failures in a row, and a replica gets no more requests, until it says that it serves.
    """

    every_s: float
    unhealthy: int


@dataclass(frozen=True, slots=True)
class Policy:
    """All settings of a use case; what is left out is not done.

    Attributes:
        slow_start_s: for how long a new replica's share grows, seconds; 0 if it has its full share at once.
    """

    retries: Retries | None = None
    hedge: Hedge | None = None
    outliers: Outliers | None = None
    breaker: Breaker | None = None
    health: Health | None = None
    slow_start_s: float = 0.0

    @classmethod
    def of(cls, use_case: Mapping[str, Any]) -> Policy | None:
        """The policy of a use case as it stands in the route table; None if it has no settings."""
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
    """Whether a use case, as it stands in the route table, has any."""
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
