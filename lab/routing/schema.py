"""The route table's shape: its fields, and the values of each.

References between parts (an existing model, a unique name) are in ``checks``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema, WrapValidator, model_validator

from lab.routing.keys import HIGHEST_SHARDS, MODEL_PATTERN, VERSION_PATTERN
from lab.routing.limits import DEFAULT
from lab.routing.resilience import RETRIABLE
from lab.routing.validators import (
    ALL,
    Checked,
    ListOf,
    Part,
    Percent,
    Timeout,
    each_of,
    form,
    percent,
    problem,
    whole,
)
from lab.routing.yaml_nodes import shown

_ABSENT: Any = None  # the default of optional fields; a written null is refused, since no field's type allows it
_MOST = 1_000_000


Budget = Annotated[int, whole("a budget", 1, 100)]
AtLeast = Annotated[int, whole("a number of attempts", 0, 100)]
Bound = Annotated[int, whole("a bound", 1, _MOST)]
Statuses = Annotated[
    list[Annotated[str, WithJsonSchema({"enum": list(RETRIABLE)})]],
    ListOf("statuses"),
    each_of(RETRIABLE, f"not a status to retry on; known: {', '.join(RETRIABLE)}"),
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


class Slo(Part):
    """Objectives for answers that come token by token, for pickers of replicas that predict."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    first_token: Timeout = Field(default=_ABSENT)
    """Time to the first token."""
    next_token: Timeout = Field(default=_ABSENT)
    """Time to each further token."""

    @model_validator(mode="after")
    def _asks_something(self) -> Slo:
        if not self.model_fields_set:
            raise problem("asks nothing; add 'first_token' or 'next_token'")
        return self


USE_CASE_PATTERN = r"[A-Za-z][A-Za-z0-9]{0,62}"
NAME_PATTERN = r"[a-z][a-z0-9-]{0,62}"
LABEL_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
DEFAULT_TIMEOUT = "1s"
HIGHEST_RATE = 1_000_000
HIGHEST_REPLICAS = 1_000
RESERVED_RULES = {
    "default": "no rule at all is called so",
    "override": "a request that pins its model version is said to be decided by that",
}
CHOICES = ("use", "experiment", "split")
CONTEXT_FIELDS = ("user_id", "device", "country", "segment", "surface", "caller", "tenant", "traffic_origin")
TRAFFIC_ORIGINS = ("real", "artificial")


def _rate(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= HIGHEST_RATE:
        raise problem(
            f"{shown(value)} is not a rate; write requests per second, more than 0 and at most {HIGHEST_RATE:,}"
        )
    return value


def _experiment_id(value: object) -> object:
    if isinstance(value, bool) or not re.fullmatch(LABEL_PATTERN, str(value), re.ASCII) or isinstance(value, float):
        raise problem(f"{shown(value)} is not an experiment's id; write it like 12345")
    return value


def _condition_value(value: object) -> object:
    if isinstance(value, (bool, int, float)):
        raise problem(f"{shown(value)} is not a text, and values are compared as texts; write it in quotes")
    if value is None or value == "":
        raise problem("an empty value matches nothing; give a string, or leave it out")
    return value


def _not_empty(what: str) -> BeforeValidator:
    def check(value: object) -> object:
        if value == {}:
            raise problem(f"is empty; write at least one {what}")
        return value

    return BeforeValidator(check)


def _adding_up(weight_of: Callable[[Any], int]) -> AfterValidator:
    def check(shares: dict[str, Any]) -> dict[str, Any]:
        total = sum(weight_of(share) for share in shares.values())
        if total != ALL:
            raise problem(f"weights add up to {total}; make them add up to {ALL}")
        return shares

    return AfterValidator(check)


def _context_field(value: object) -> object:
    if value not in CONTEXT_FIELDS:
        raise problem(f"{shown(value)} is not a field of the request context; known: {', '.join(CONTEXT_FIELDS)}")
    return value


_SOME: Any = Field(json_schema_extra={"minProperties": 1})
UseCaseName = Annotated[str, form("a use case's name", USE_CASE_PATTERN, "ContinueWatchingRanking")]
OwnerName = Annotated[str, form("an owner's name", NAME_PATTERN, "recommendations")]
CallerName = Annotated[str, form("a caller's name", NAME_PATTERN, "homepage")]
ModelName = Annotated[str, form("a model's name", MODEL_PATTERN, "cw-ranker")]
VersionName = Annotated[str, form("a version", VERSION_PATTERN, "v2")]
Reference = Annotated[str, form("a model version", rf"{MODEL_PATTERN}@{VERSION_PATTERN}", "cw-ranker@v2")]
_CLUSTER = form("a cluster's name", NAME_PATTERN, "ml-cluster-1")
ClusterName = Annotated[str, _CLUSTER]
RuleName = Annotated[str, form("a rule's name", LABEL_PATTERN, "tv-north-america")]
CellName = Annotated[str, form("a cell", LABEL_PATTERN, "1")]
ContextField = Annotated[str, Checked(_context_field, {"enum": list(CONTEXT_FIELDS)})]
ExperimentId = Annotated[
    Any,
    Checked(
        _experiment_id,
        {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": f"^{LABEL_PATTERN}$"}]},
    ),
]
Weight = Annotated[int, percent("weight")]
TenantName = Annotated[str, form("a tenant's name", LABEL_PATTERN, "ads")]
Rate = Annotated[float, Checked(_rate, {"type": "number", "exclusiveMinimum": 0, "maximum": HIGHEST_RATE})]
Requests = Annotated[int, whole("a number of requests", 1, HIGHEST_RATE)]
Config = dict[str, Any]
Values = Annotated[
    list[Annotated[str, Checked(_condition_value, {"type": "string", "minLength": 1})]], ListOf("values")
]
TrafficOrigins = Annotated[
    list[Annotated[str, Checked(_condition_value, {"enum": list(TRAFFIC_ORIGINS)})]],
    ListOf("values"),
    each_of(TRAFFIC_ORIGINS, "not a traffic origin; write 'real' or 'artificial'"),
]
Callers = Annotated[list[CallerName], ListOf("callers")]
References = Annotated[list[Reference], ListOf("model versions")]


class Conditions(Part):
    """Holds if every field's list contains the request's value, and ``not`` does not hold.

    No list contains a field that the request lacks or leaves empty.
    """

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    user_id: Values = Field(default_factory=list)
    device: Values = Field(default_factory=list)
    country: Values = Field(default_factory=list)
    segment: Values = Field(default_factory=list)
    surface: Values = Field(default_factory=list)
    caller: Values = Field(default_factory=list)
    tenant: Values = Field(default_factory=list)
    traffic_origin: TrafficOrigins = Field(default_factory=list)
    negated: Annotated[Conditions, _not_empty("condition, or leave 'not' out")] = Field(default=_ABSENT, alias="not")
    """Conditions that must not all hold."""


class Cell(Part):
    """One arm of an experiment."""

    weight: Weight
    """Whole percent of the units; the sum of the cells' weights is 100."""
    use: Reference
    config: Config = Field(default_factory=dict)
    """Parameters for the model; they override the rule's and the version's own."""


class Experiment(Part):
    """Allocates users to cells by the experiment's id, identically in every participating use case."""

    id: ExperimentId
    unit: ContextField
    """The context field whose value is allocated; a request without it does not match."""
    cells: Annotated[dict[CellName, Cell], _not_empty("cell"), _adding_up(lambda cell: int(cell.weight)), _SOME]


class Split(Part):
    """Weighted shares of the units, drawn for this rule alone."""

    unit: ContextField
    """The context field whose value is drawn for; a request without it does not match."""
    weights: Annotated[dict[Reference, Weight], _not_empty("model version"), _adding_up(int), _SOME]
    """Whole percent of each model version; the sum is 100."""


class Rule(Part):
    """What to use if the conditions hold; the first rule that matches decides."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [choice]} for choice in CHOICES]})

    name: RuleName = Field(json_schema_extra={"not": {"enum": list(RESERVED_RULES)}})
    """Unique within the use case."""
    when: Annotated[Conditions, _not_empty("condition, or leave 'when' out for a rule that always matches")] = Field(
        default=_ABSENT
    )
    """If left out, the rule always matches."""
    use: Reference = Field(default=_ABSENT)
    experiment: Experiment = Field(default=_ABSENT)
    split: Split = Field(default=_ABSENT)
    config: Config = Field(default_factory=dict)
    """Parameters for the model; they override the version's own."""

    @model_validator(mode="after")
    def _has_one_choice(self) -> Rule:
        given = [choice for choice in CHOICES if choice in self.model_fields_set]
        if not given:
            raise problem("chooses nothing; add one of 'use', 'experiment' and 'split'")
        if len(given) > 1:
            raise problem(f"has {' and '.join(map(repr, given))}; keep exactly one of them")
        return self


class Shadow(Part):
    """The version that gets copies of a share of the requests; its answers are ignored."""

    use: Reference
    percent: Percent
    """Whole percent of the requests, drawn by their id."""


class _Owned(Part):
    """An entry that may have an owner."""

    owner: OwnerName = Field(default=_ABSENT)
    """Who may publish changes of this entry, beside the operator."""


class UseCase(_Owned):
    """A use case: its callers, and the model versions that answer it."""

    callers: Callers
    """Callers that may use it."""
    override: Callers = Field(default_factory=list)
    """Callers that may pin a request to a model version, bypassing all rules."""
    api: str
    """Inference API of its models."""
    timeout: Timeout = DEFAULT_TIMEOUT
    """Deadline of a call, such as 250ms or 2s; at most 600s, and 1s if left out."""
    default: Reference
    """The model version that answers if no rule matches."""
    rules: list[Rule] = Field(default_factory=list)
    """Tried in order."""
    shadow: Shadow = Field(default=_ABSENT)
    fallback: References = Field(default_factory=list)
    """Model versions to try in order if the chosen one fails."""
    idempotent: bool = False
    """Whether a request may be sent twice without harm."""
    retries: Retries = Field(default=_ABSENT)
    hedge: Hedge = Field(default=_ABSENT)
    outliers: Outliers = Field(default=_ABSENT)
    breaker: Breaker = Field(default=_ABSENT)
    health: Health = Field(default=_ABSENT)
    slow_start: Timeout = Field(default=_ABSENT)
    """Time over which a new replica's share grows; if left out, it has its full share at once."""
    slo: Slo = Field(default=_ABSENT)
    priority: Annotated[int, whole("a priority", -100, 100)] = 0
    """Where requests wait before a replica is picked, higher ones go first, and lower ones are shed first."""


def _shards(value: object) -> object:
    if not isinstance(value, list) or not 1 <= len(value) <= HIGHEST_SHARDS:
        raise problem(f"not a list of 1 to {HIGHEST_SHARDS} clusters; write them like [ml-cluster-1, ml-cluster-2]")
    return value


class Sharded(Part):
    """Clusters that divide the requests of a version among them."""

    shards: Annotated[list[ClusterName], BeforeValidator(_shards)] = Field(
        json_schema_extra={"minItems": 1, "maxItems": HIGHEST_SHARDS}
    )
    """The clusters of shards 1, 2, …; a hash of the user chooses, unless ``tenants`` does."""
    tenants: dict[TenantName, Annotated[int, whole("a shard", 1, HIGHEST_SHARDS)]] = Field(
        default=_ABSENT, json_schema_extra={"required": [DEFAULT]}
    )
    """The shard of each tenant; default is that of all others."""

    @model_validator(mode="after")
    def _has_each_shard(self) -> Sharded:
        if "tenants" not in self.model_fields_set:
            return self
        if DEFAULT not in self.tenants:
            raise problem(f"has no shard for other tenants; add '{DEFAULT}: 1' to its tenants")
        for tenant, shard in self.tenants.items():
            if shard > len(self.shards):
                raise problem(
                    f"tenant {shown(tenant)} has shard {shard}, and there are {len(self.shards)}; write one of them"
                )
        return self


def _cluster(value: object, _handler: object) -> object:
    """Validates as the one or the other, so that problems are those of one of them."""
    return Sharded.model_validate(value) if isinstance(value, dict) else _CLUSTER.check(value)


class VersionOfModel(Part):
    """Where a version runs, and its parameters, which travel in the body."""

    cluster: Annotated[ClusterName | Sharded, WrapValidator(_cluster)]
    """One cluster, or a mapping with shards."""
    config: Config = Field(default_factory=dict)
    """Parameters for the model."""


class Model(_Owned):
    """One model's versions."""

    versions: Annotated[dict[VersionName, VersionOfModel], _not_empty("version"), _SOME]


class Cluster(_Owned):
    """Replicas behind one VIP."""

    replicas: Annotated[int, whole("a number of replicas", 1, HIGHEST_REPLICAS)]
    failover: ClusterName = Field(default=_ABSENT)
    """The failover cluster: it also holds this cluster's versions, for when no replica here can answer."""


class Tenant(Part):
    """Limits of one tenant at all gateway replicas together (each enforces its share), and who may name it."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "dependentRequired": {"burst": ["rate"]}})

    rate: Rate = _ABSENT
    """Requests per second, on average."""
    burst: Requests = _ABSENT
    """Requests at once after a pause; one second's requests if left out."""
    concurrent: Requests = _ABSENT
    """Requests in flight."""
    callers: Callers = _ABSENT
    """Callers that may name this tenant; all if left out, with a limit for each caller if callers authenticate."""

    @model_validator(mode="after")
    def _has_a_limit(self) -> Tenant:
        given = self.model_fields_set
        if not given:
            raise problem("limits nothing; add 'rate', 'concurrent' or 'callers', or leave the tenant out")
        if "burst" in given and "rate" not in given:
            raise problem("has 'burst' without 'rate'; add the rate at which it is earned again")
        return self


class Table(Part):
    """The route table: the rules of each use case, and where each model version runs."""

    use_cases: dict[UseCaseName, UseCase] = Field(default_factory=dict)
    models: dict[ModelName, Model] = Field(default_factory=dict)
    clusters: dict[ClusterName, Cluster] = Field(default_factory=dict)
    tenants: dict[TenantName, Tenant] = Field(default_factory=dict)
    """Limits of tenants at the gateways; default applies to each tenant without an entry."""
