"""Validators of single values in a route table, and the base class of its mappings."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

from lab.routing.durations import seconds
from lab.routing.yaml_nodes import shown

TIMEOUT_PATTERN = r"([0-9]{1,7}(?:\.[0-9]{1,3})?)(ms|s)"
LONGEST_TIMEOUT_S = 600.0
ALL = 100


def problem(text: str) -> PydanticCustomError:
    """A problem with the lab's own text. Pydantic would interpret braces in it, so the text is passed as a value."""
    return PydanticCustomError("lab", "{problem}", {"problem": text})


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """A check of a value, for pydantic, and the JSON Schema of what passes it, for editors."""

    check: Callable[[object], object]
    json_schema: dict[str, Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, _schema: Any, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(self.json_schema)


def form(what: str, pattern: str, example: str) -> Checked:
    """A text that the pattern matches."""
    compiled = re.compile(pattern, re.ASCII)

    def check(value: object) -> object:
        if isinstance(value, (int, float)):
            raise problem(f"{shown(value)} is not a text; write it in quotes")
        if not isinstance(value, str) or compiled.fullmatch(value) is None:
            raise problem(f"{shown(value)} is not {what}; write it like {example}")
        return value

    return Checked(check, {"type": "string", "pattern": f"^(?:{pattern})$"})


def whole(what: str, low: int, high: int) -> Checked:
    """A whole number in a range, whose ends belong to it."""

    def check(value: object) -> object:
        if not is_whole(value, low, high):
            raise problem(f"{shown(value)} is not {what}; write a whole number from {low:,} to {high:,}")
        return value

    return Checked(check, {"type": "integer", "minimum": low, "maximum": high})


def is_whole(value: object, low: int, high: int) -> bool:
    """Whether a value is a whole number in a range."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def percent(what: str) -> Checked:
    """A whole percent, with a name for errors."""

    def check(value: object) -> object:
        if not is_whole(value, 0, ALL):
            raise problem(f"{what} {shown(value)} is not a whole percent; write a number from 0 to {ALL}")
        return value

    return Checked(check, {"type": "integer", "minimum": 0, "maximum": ALL})


def _timeout(value: object) -> object:
    if not isinstance(value, str) or re.fullmatch(TIMEOUT_PATTERN, value, re.ASCII) is None:
        raise problem(f"{shown(value)} is not a duration; write it like 250ms or 2s")
    if not 0 < seconds(value) <= LONGEST_TIMEOUT_S:
        raise problem(f"{shown(value)} is out of range: use more than 0ms and at most {LONGEST_TIMEOUT_S:g}s")
    return value


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of one or more values, each once."""

    what: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        items = core_schema.no_info_before_validator_function(self._check, handler(source))
        return core_schema.no_info_after_validator_function(_each_once, items)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "minItems": 1, "uniqueItems": True}

    def _check(self, value: object) -> object:
        if isinstance(value, str):
            raise problem(f"{shown(value)} is not a list; write [{value[:40]}]")
        if not isinstance(value, list):
            raise problem(f"{shown(value)} is not a list; write a list of {self.what}")
        if not value:
            raise problem(f"is an empty list; write at least one of its {self.what}")
        return value


def _each_once(values: list[Any]) -> list[Any]:
    for place, value in enumerate(values):
        if value in values[:place]:
            raise problem(f"{shown(value)} is listed twice; keep it once")
    return values


def each_of(known: Collection[str], otherwise: str) -> AfterValidator:
    """Refuses values of a list that are not known."""

    def check(values: list[str]) -> list[str]:
        for value in values:
            if value not in known:
                raise problem(f"{shown(value)} is {otherwise}")
        return values

    return AfterValidator(check)


class Part(BaseModel):
    """A mapping of the table. Unknown fields are errors; nothing is converted."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        use_attribute_docstrings=True,
        defer_build=True,  # most commands read no table
    )


Percent = Annotated[int, percent("percent")]
Timeout = Annotated[str, Checked(_timeout, {"type": "string", "pattern": f"^{TIMEOUT_PATTERN}$"})]
