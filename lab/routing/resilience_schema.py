"""The shape of a use case's resilience settings; ``resilience`` has their meaning."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, WithJsonSchema, model_validator

from lab.routing.resilience import RETRIABLE
from lab.routing.validators import ListOf, Part, Timeout, each_of, problem, whole

_MOST = 1_000_000
_ABSENT: Any = None  # as in ``schema``


Budget = Annotated[int, whole("a budget", 1, 100)]
AtLeast = Annotated[int, whole("a number of attempts", 0, 100)]
Bound = Annotated[int, whole("a bound", 1, _MOST)]
Statuses = Annotated[
    list[Annotated[str, WithJsonSchema({"enum": list(RETRIABLE)})]],
    ListOf("statuses"),
    each_of(RETRIABLE, f"no status to try again after; known: {', '.join(RETRIABLE)}"),
]


class Retries(Part):
    """Retries of failed attempts, within the use case's timeout."""

    attempts: Annotated[int, whole("a number of attempts", 2, 5)] = 2
    """Maximum number of attempts per request, the first included."""
    on: Statuses = Field(default=["unavailable"])
    """Statuses that are retried; unavailable includes replicas that cannot be reached or reset the connection."""
    budget: Budget = 20
    """Maximum retries in flight, as a percentage of first attempts in flight."""
    at_least: AtLeast = 0
    """Number of retries in flight that the budget always allows."""
    backoff: Timeout = "25ms"
    """Maximum pause before the second attempt, with full jitter; it doubles with each further attempt."""
    per_try: Timeout = Field(default=_ABSENT)
    """Timeout of one attempt, which then counts as unavailable."""


class Hedge(Part):
    """A second attempt beside a slow first one; the first answer counts."""

    after: Timeout
    """Delay before the second attempt."""
    budget: Budget = 20
    """Maximum hedges in flight, as a percentage of first attempts in flight."""
    at_least: AtLeast = 0
    """Number of hedges in flight that the budget always allows."""


class Outliers(Part):
    """Ejection of replicas that fail repeatedly."""

    errors: Bound = 5
    """Number of consecutive failures that eject a replica."""
    eject: Timeout = "10s"
    at_most: Annotated[int, whole("a percent", 1, 100)] = 50
    """Maximum percentage of ejected replicas."""


class Breaker(Part):
    """Limits of one sidecar or gateway to a model version; a request beyond them is RESOURCE_EXHAUSTED at once."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    requests: Bound = Field(default=_ABSENT)
    connections: Bound = Field(default=_ABSENT)
    pending: Bound = Field(default=_ABSENT)
    """Requests that wait for a connection."""

    @model_validator(mode="after")
    def _bounds_something(self) -> Breaker:
        if not self.model_fields_set:
            raise problem("bounds nothing; add one of 'requests', 'connections' and 'pending'")
        return self


class Health(Part):
    """Active health checks by gRPC's health protocol."""

    every: Timeout = "1s"
    """Interval of checks, and timeout of one."""
    unhealthy: Annotated[int, whole("a number of failures", 1, 100)] = 2
    """Number of consecutive failures after which a replica gets no requests, until a check succeeds."""
