"""The route table's shape as a JSON Schema for editors, from the same model that validates tables.

It covers fields, forms of names, and ranges. ``lab routes validate`` also checks references, weights and unreachable
rules.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from lab.routing.document import KNOWN_APIS
from lab.routing.schema import Table


def json_schema() -> dict[str, Any]:
    """The schema, in draft 2020-12."""
    made = Table.model_json_schema()
    made["$defs"]["UseCase"]["properties"]["api"] |= {"enum": sorted(KNOWN_APIS)}
    tidied: dict[str, Any] = _tidied(made)
    return {"$schema": GenerateJsonSchema.schema_dialect, "title": "Route table", **tidied}


def text() -> str:
    """The text of ``docs/routes.schema.json``."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


def _tidied(part: Any) -> Any:
    """Removes titles that repeat names, and nulls for optional fields; forbids keys of unknown form."""
    if isinstance(part, list):
        return [_tidied(each) for each in part]
    if not isinstance(part, dict):
        return part
    kept = {
        key: _tidied(value)
        for key, value in part.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None)
    }
    if "patternProperties" in kept:
        kept.pop("propertyNames", None)
        kept["additionalProperties"] = False
    if isinstance(description := kept.get("description"), str):
        kept["description"] = " ".join(description.replace("``", "").split())
    return kept
