"""Validators of single values in a route table, and the base class of its mappings."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError, core_schema

from lab.routing.yaml_nodes import shown

TIMEOUT_PATTERN = r"([0-9]{1,7}(?:\.[0-9]{1,3})?)(ms|s)"
LONGEST_TIMEOUT_S = 600.0
ALL = 100

T = TypeVar("T", bound=Sequence[Hashable])


def problem(text: str) -> PydanticCustomError:
    """A problem with the lab's own text. Pydantic would interpret braces in it, so the text is passed as a value."""
    return PydanticCustomError("lab", "{problem}", {"problem": text})


@dataclass(frozen=True, slots=True)
class Form:
    """A text of a given form, for pydantic and for editors."""

    what: str
    pattern: str
    example: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        form = re.compile(self.pattern, re.ASCII)

        def check(value: object) -> object:
            if isinstance(value, (int, float)):
                raise problem(f"{shown(value)} is not a text; write it in quotes")
            if not isinstance(value, str) or form.fullmatch(value) is None:
                raise problem(f"{shown(value)} is not {self.what}; write it like {self.example}")
            return value

        return core_schema.no_info_before_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(
        self, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^(?:{self.pattern})$"}


def percent(what: str) -> BeforeValidator:
    """A whole percent, with a name for errors."""

    def check(value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= ALL:
            raise problem(f"{what} {shown(value)} is not a whole percent; write a number from 0 to {ALL}")
        return value

    return BeforeValidator(check)


def _timeout(value: object) -> object:
    if not isinstance(value, str) or (seconds := timeout_seconds(value)) is None:
        raise problem(f"{shown(value)} is not a duration; write it like 250ms or 2s")
    if not 0 < seconds <= LONGEST_TIMEOUT_S:
        raise problem(f"{shown(value)} is out of range: use more than 0ms and at most {LONGEST_TIMEOUT_S:g}s")
    return value


def timeout_seconds(text: str) -> float | None:
    """Seconds of ``250ms`` or ``2s``; None if the text has another form."""
    parts = re.fullmatch(TIMEOUT_PATTERN, text, re.ASCII)
    if parts is None:
        return None
    return float(parts[1]) / (1000 if parts[2] == "ms" else 1)


def list_of(what: str) -> BeforeValidator:
    """A non-empty list."""

    def check(value: object) -> object:
        if isinstance(value, str):
            raise problem(f"{shown(value)} is not a list; write [{value[:40]}]")
        if not isinstance(value, list):
            raise problem(f"{shown(value)} is not a list; write a list of {what}")
        if not value:
            raise problem(f"is an empty list; write at least one of its {what}")
        return value

    return BeforeValidator(check)


def each_once(values: T) -> T:
    """Refuses duplicates."""
    for place, value in enumerate(values):
        if value in values[:place]:
            raise problem(f"{shown(value)} is listed twice; keep it once")
    return values


class Part(BaseModel):
    """A mapping of the table. Unknown fields are errors; nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number in a range, for pydantic and for editors."""

    what: str
    low: int
    high: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def check(value: object) -> object:
            if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
                raise problem(f"{shown(value)} is not {self.what}; write a whole number from {self.low} to {self.high}")
            return value

        return core_schema.no_info_before_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(
        self, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


AS_PERCENT = WithJsonSchema({"type": "integer", "minimum": 0, "maximum": ALL})
Percent = Annotated[int, percent("percent"), AS_PERCENT]
Timeout = Annotated[
    str, BeforeValidator(_timeout), WithJsonSchema({"type": "string", "pattern": f"^{TIMEOUT_PATTERN}$"})
]
SOME_ONCE: Any = Field(json_schema_extra={"minItems": 1, "uniqueItems": True})
