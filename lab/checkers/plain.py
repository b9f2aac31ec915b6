"""A second, deliberately plain interpreter of route tables: slow, short, and sharing no code with ``lab.routing``.

It is what answers are judged by. Whoever changes the language changes both interpreters, from its description alone;
a test holds them against each other. So nothing here is shared, cached or clever.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Expected:
    """What the rules want for one request.

    Attributes:
        status: ``OK``, ``NOT_FOUND`` or ``PERMISSION_DENIED``.
        model: of the model that is to answer; empty if none is, as are the next fields.
        cluster: where that version runs.
    """

    status: str
    model: str = ""
    version: str = ""
    cluster: str = ""


def decide(document: Mapping[str, Any], use_case: str, context: Mapping[str, str]) -> Expected:
    """What a route table wants for one request.

    Args:
        document: the route table.
        use_case: what is asked for.
        context: the request's fields, the caller among them; an empty value means that the request lacks the field.
    """
    if use_case not in document["use_cases"]:
        return Expected("NOT_FOUND")
    entry = document["use_cases"][use_case]
    if context.get("caller", "") not in entry["callers"]:
        return Expected("PERMISSION_DENIED")
    reference = entry["default"]
    for rule in entry.get("rules", []):
        chosen = _reference_of(rule, use_case, context)
        if chosen is not None:
            reference = chosen
            break
    model, version = reference.split("@")
    return Expected("OK", model, version, document["models"][model]["versions"][version]["cluster"])


def fields_read(document: Mapping[str, Any], use_case: str) -> list[str]:
    """The fields of the context on which :func:`decide` depends for this use case, sorted."""
    fields = {"caller"}
    for rule in document["use_cases"].get(use_case, {}).get("rules", []):
        when = rule.get("when", {})
        while when:
            fields.update(field for field in when if field != "not")
            when = when.get("not", {})
        for draw in ("experiment", "split"):
            if draw in rule:
                fields.add(rule[draw]["unit"])
    return sorted(fields)


def _reference_of(rule: Mapping[str, Any], use_case: str, context: Mapping[str, str]) -> str | None:
    """The model version that a rule chooses, None if the rule does not match."""
    if not _holds(rule.get("when", {}), context):
        return None
    if "use" in rule:
        return str(rule["use"])
    if "experiment" in rule:
        experiment = rule["experiment"]
        weights = {cell: arm["weight"] for cell, arm in experiment["cells"].items()}
        cell = _drawn(f"experiment/{experiment['id']}", context.get(experiment["unit"], ""), weights)
        return None if cell is None else str(experiment["cells"][cell]["use"])
    split = rule["split"]
    return _drawn(f"split/{use_case}/{rule['name']}", context.get(split["unit"], ""), split["weights"])


def _holds(when: Mapping[str, Any], context: Mapping[str, str]) -> bool:
    for field, wanted in when.items():
        if field == "not":
            if _holds(wanted, context):
                return False
        elif context.get(field, "") == "" or context[field] not in wanted:
            return False
    return True


def _drawn(salt: str, unit: str, weights: Mapping[str, int]) -> str | None:
    """The share whose buckets the unit falls into; None if the request lacks the unit."""
    if unit == "":
        return None
    digest = hashlib.blake2b(salt.encode() + b"\0" + unit.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    bucket = int.from_bytes(digest, "big") % 10_000
    end = 0
    for name in sorted(weights, key=_with_numbers_as_numbers):
        end += weights[name] * 100
        if bucket < end:
            return name
    raise ValueError(f"weights add up to {end / 100:g}, not to 100")


def _with_numbers_as_numbers(name: str) -> tuple[str, str]:
    """Sorts ``2`` before ``10`` and ``m@v2`` before ``m@v10``: every number is filled up with zeros."""
    return re.sub("[0-9]+", lambda number: number[0].zfill(64), name), name
