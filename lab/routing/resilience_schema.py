"""The shape of a use case's settings of resilience; for what they do see ``resilience``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema, model_validator

from lab.routing.resilience import RETRIABLE
from lab.routing.validators import SOME_ONCE, Part, Timeout, Whole, each_once, list_of, problem
from lab.routing.yaml_nodes import shown

_MOST = 1_000_000
_ABSENT: Any = None  # as in ``schema``


def _retriable(values: list[str]) -> list[str]:
    for value in values:
        if value not in RETRIABLE:
            raise problem(f"{shown(value)} is no status to try again after; known: {', '.join(RETRIABLE)}")
    return values


Budget = Annotated[int, Whole("a budget", 1, 100)]
AtLeast = Annotated[int, Whole("a number of attempts", 0, 100)]
Bound = Annotated[int, Whole("a bound", 1, _MOST)]
Statuses = Annotated[
    list[Annotated[str, WithJsonSchema({"enum": list(RETRIABLE)})]],
    list_of("statuses"),
    AfterValidator(each_once),
    AfterValidator(_retriable),
    SOME_ONCE,
]


class Retries(Part):
    """Failed attempts are made again, within the use case's one timeout."""

    attempts: Annotated[int, Whole("a number of attempts", 2, 5)] = 2
    """How often a request is sent at most, the first time included."""
    on: Statuses = Field(default=["unavailable"])
    """Statuses after which it is sent again; unavailable includes replicas that cannot be reached or break off."""
    budget: Budget = 20
    """How many attempts again there may be to a hundred first ones, at any moment."""
    at_least: AtLeast = 0
    """So many attempts again at once are allowed whatever the budget says."""
    backoff: Timeout = "25ms"
    """Pause before the second attempt, drawn at random up to this; twice as long before each next one."""
    per_try: Timeout = Field(default=_ABSENT)
    """An attempt that takes longer is given up as unavailable."""


class Hedge(Part):
    """A second attempt beside a slow first one; the first answer counts."""

    after: Timeout
    """How long the first attempt is waited for alone."""
    budget: Budget = 20
    """How many second attempts there may be to a hundred first ones, at any moment."""
    at_least: AtLeast = 0
    """So many second attempts at once are allowed whatever the budget says."""


class Outliers(Part):
    """A replica that fails again and again gets no requests for a while."""

    errors: Bound = 5
    """So many failures in a row."""
    eject: Timeout = "10s"
    at_most: Annotated[int, Whole("a percent", 1, 100)] = 50
    """Whole percent of the replicas that may be out at once."""


class Breaker(Part):
    """Bounds on what one sidecar or gateway has under way to a model version; more is RESOURCE_EXHAUSTED at once."""

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
    """Replicas are asked by gRPC's health protocol whether they serve."""

    every: Timeout = "1s"
    """Pause between questions, and how long an answer may take."""
    unhealthy: Annotated[int, Whole("a number of failures", 1, 100)] = 2
    """So many failures in a row, and a replica gets no requests, until it says that it serves."""
