"""The route table's shape: which fields there are and what each may hold.

What ties one place of the table to another (a model that exists, a name that is used once) is in ``checks``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from lab.routing.keys import MODEL_PATTERN, VERSION_PATTERN
from lab.routing.tree import shown

USE_CASE_PATTERN = r"[A-Za-z][A-Za-z0-9]{0,62}"
NAME_PATTERN = r"[a-z][a-z0-9-]{0,62}"
LABEL_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
TIMEOUT_PATTERN = r"([0-9]{1,7}(?:\.[0-9]{1,3})?)(ms|s)"
LONGEST_TIMEOUT_S = 600.0
RESERVED_RULES = {
    "default": "no rule at all is called so",
    "override": "a request that pins its model version is said to be decided by that",
}
CHOICES = ("use", "experiment", "split")
CONTEXT_FIELDS = ("user_id", "device", "country", "segment", "surface", "caller", "tenant", "traffic_origin")
_ALL = 100
_ABSENT: Any = None  # what is left out; a null that is written is refused, as no field's type has it

T = TypeVar("T", bound=Sequence[Hashable])


def problem(text: str) -> PydanticCustomError:
    """A problem in the lab's own words. Pydantic fills in braces, so the text goes in as a value."""
    return PydanticCustomError("lab", "{problem}", {"problem": text})


def _form(what: str, pattern: str, example: str) -> BeforeValidator:
    form = re.compile(pattern, re.ASCII)

    def check(value: object) -> object:
        if isinstance(value, (int, float)):
            raise problem(f"{shown(value)} is not a text; write it in quotes")
        if not isinstance(value, str) or form.fullmatch(value) is None:
            raise problem(f"{shown(value)} is not {what}; write it like {example}")
        return value

    return BeforeValidator(check)


def _percent(what: str) -> BeforeValidator:
    def check(value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _ALL:
            raise problem(f"{what} {shown(value)} is not a whole percent; write a number from 0 to {_ALL}")
        return value

    return BeforeValidator(check)


def _replicas(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise problem(f"{shown(value)} is not a number of replicas; write a whole number from 1 on")
    return value


def _experiment_id(value: object) -> object:
    if isinstance(value, bool) or not re.fullmatch(LABEL_PATTERN, str(value), re.ASCII) or isinstance(value, float):
        raise problem(f"{shown(value)} is not an experiment's id; write it like 12345")
    return value


def _timeout(value: object) -> object:
    if not isinstance(value, str) or (seconds := timeout_seconds(value)) is None:
        raise problem(f"{shown(value)} is not a duration; write it like 250ms or 2s")
    if not 0 < seconds <= LONGEST_TIMEOUT_S:
        raise problem(f"{shown(value)} is out of range; write more than 0ms and at most {LONGEST_TIMEOUT_S:g}s")
    return value


def timeout_seconds(text: str) -> float | None:
    """Seconds of ``250ms`` or ``2s``; None if the text has another form."""
    parts = re.fullmatch(TIMEOUT_PATTERN, text, re.ASCII)
    if parts is None:
        return None
    return float(parts[1]) / (1000 if parts[2] == "ms" else 1)


def _condition_value(value: object) -> object:
    if isinstance(value, (bool, int, float)):
        raise problem(f"{shown(value)} is not a text, and values are compared as texts; write it in quotes")
    if value is None or value == "":
        raise problem("an empty value holds for nothing; write a text, or leave it out")
    return value


def _list_of(what: str) -> BeforeValidator:
    def check(value: object) -> object:
        if isinstance(value, str):
            raise problem(f"{shown(value)} is not a list; write [{value[:40]}]")
        if not isinstance(value, list):
            raise problem(f"{shown(value)} is not a list; write a list of {what}")
        if not value:
            raise problem(f"is an empty list; write at least one of its {what}")
        return value

    return BeforeValidator(check)


def _each_once(values: T) -> T:
    for place, value in enumerate(values):
        if value in values[:place]:
            raise problem(f"{shown(value)} is listed twice; keep it once")
    return values


def _traffic_origins(values: list[str]) -> list[str]:
    for value in values:
        if value not in {"real", "artificial"}:
            raise problem(f"{shown(value)} is not a traffic origin; write 'real' or 'artificial'")
    return values


def _not_empty(what: str) -> BeforeValidator:
    def check(value: object) -> object:
        if value == {}:
            raise problem(f"is empty; write at least one {what}")
        return value

    return BeforeValidator(check)


def _adding_up(weight_of: Callable[[Any], int]) -> AfterValidator:
    def check(shares: dict[str, Any]) -> dict[str, Any]:
        total = sum(weight_of(share) for share in shares.values())
        if total != _ALL:
            raise problem(f"weights add up to {total}; make them add up to {_ALL}")
        return shares

    return AfterValidator(check)


def _context_field(value: object) -> object:
    if value not in CONTEXT_FIELDS:
        raise problem(f"{shown(value)} is not a field of the request context; known: {', '.join(CONTEXT_FIELDS)}")
    return value


UseCaseName = Annotated[str, _form("a use case's name", USE_CASE_PATTERN, "ContinueWatchingRanking")]
CallerName = Annotated[str, _form("a caller's name", NAME_PATTERN, "homepage")]
ModelName = Annotated[str, _form("a model's name", MODEL_PATTERN, "cw-ranker")]
VersionName = Annotated[str, _form("a version", VERSION_PATTERN, "v2")]
Reference = Annotated[str, _form("a model version", rf"{MODEL_PATTERN}@{VERSION_PATTERN}", "cw-ranker@v2")]
ClusterName = Annotated[str, _form("a cluster's name", NAME_PATTERN, "ml-cluster-1")]
RuleName = Annotated[str, _form("a rule's name", LABEL_PATTERN, "tv-north-america")]
CellName = Annotated[str, _form("a cell", LABEL_PATTERN, "1")]
ContextField = Annotated[str, BeforeValidator(_context_field)]
ExperimentId = Annotated[Any, BeforeValidator(_experiment_id)]
Weight = Annotated[int, _percent("weight")]
Percent = Annotated[int, _percent("percent")]
Config = dict[str, Any]
Timeout = Annotated[str, BeforeValidator(_timeout)]
Values = Annotated[
    list[Annotated[str, BeforeValidator(_condition_value)]], _list_of("values"), AfterValidator(_each_once)
]
Callers = Annotated[list[CallerName], _list_of("callers"), AfterValidator(_each_once)]


class Part(BaseModel):
    """One mapping of the table. An unknown field is an error; nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Conditions(Part):
    """``when``: holds if every field's list contains the request's value, and ``not`` does not hold.

    A field that the request lacks, or that is empty there, holds for nothing.
    """

    user_id: Values = Field(default_factory=list)
    device: Values = Field(default_factory=list)
    country: Values = Field(default_factory=list)
    segment: Values = Field(default_factory=list)
    surface: Values = Field(default_factory=list)
    caller: Values = Field(default_factory=list)
    tenant: Values = Field(default_factory=list)
    traffic_origin: Annotated[Values, AfterValidator(_traffic_origins)] = Field(default_factory=list)
    negated: Annotated[Conditions, _not_empty("condition, or leave 'not' out")] = Field(default=_ABSENT, alias="not")


class Cell(Part):
    """One arm of an experiment."""

    weight: Weight
    use: Reference
    config: Config = Field(default_factory=dict)


class Experiment(Part):
    """Users are allocated to cells by the experiment's id, alike for every use case that takes part."""

    id: ExperimentId
    unit: ContextField
    cells: Annotated[dict[CellName, Cell], _not_empty("cell"), _adding_up(lambda cell: int(cell.weight))]


class Split(Part):
    """Weighted shares of the units, drawn for this rule alone."""

    unit: ContextField
    weights: Annotated[dict[Reference, Weight], _not_empty("model version"), _adding_up(int)]


class Rule(Part):
    """What to use when the conditions hold; the first rule that matches decides."""

    name: RuleName
    when: Annotated[Conditions, _not_empty("condition, or leave 'when' out for a rule that always matches")] = Field(
        default=_ABSENT
    )
    use: Reference = Field(default=_ABSENT)
    experiment: Experiment = Field(default=_ABSENT)
    split: Split = Field(default=_ABSENT)
    config: Config = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_one_choice(self) -> Rule:
        given = [choice for choice in CHOICES if choice in self.model_fields_set]
        if not given:
            raise problem("chooses nothing; add one of 'use', 'experiment' and 'split'")
        if len(given) > 1:
            raise problem(f"has {' and '.join(map(repr, given))}; keep exactly one of them")
        return self


class Shadow(Part):
    """Who gets a copy of a share of the requests; the copy's answer is ignored."""

    use: Reference
    percent: Percent


class UseCase(Part):
    """Who may ask, and what answers."""

    callers: Callers
    override: Callers = Field(default_factory=list)
    api: str
    timeout: Timeout
    default: Reference
    rules: list[Rule] = Field(default_factory=list)
    shadow: Shadow = Field(default=_ABSENT)
    fallback: Annotated[list[Reference], _list_of("model versions"), AfterValidator(_each_once)] = Field(
        default_factory=list
    )


class VersionOfModel(Part):
    """Where a version runs, and the parameters that travel to it in the body."""

    cluster: ClusterName
    config: Config = Field(default_factory=dict)


class Model(Part):
    """One model's versions."""

    versions: Annotated[dict[VersionName, VersionOfModel], _not_empty("version")]


class Cluster(Part):
    """Replicas behind one VIP."""

    replicas: Annotated[int, BeforeValidator(_replicas)]


class Table(Part):
    """The whole route table."""

    use_cases: dict[UseCaseName, UseCase] = Field(default_factory=dict)
    models: dict[ModelName, Model] = Field(default_factory=dict)
    clusters: dict[ClusterName, Cluster] = Field(default_factory=dict)
