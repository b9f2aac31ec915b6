"""What a whole route table says of model versions: which a caller may come to need, and how each is treated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.routing.checks import references
from lab.routing.keys import routing_key
from lab.routing.resilience import Policy

if TYPE_CHECKING:
    from lab.routing.document import RouteTable


def keys_for(caller: str, table: RouteTable) -> frozenset[str]:
    """Routing keys of all versions that a decision for this caller may name, as first choice or next, or as shadow."""
    found: set[str] = set()
    for use_case in table.document["use_cases"].values():
        if caller in use_case.get("override", ()):
            return frozenset(table.versions)
        if caller in use_case["callers"]:
            found.update(routing_key(*reference.split("@", 1)) for _, reference in references((), use_case))
    return frozenset(found)


def callers_of(table: RouteTable) -> frozenset[str]:
    """Everybody who may ask for anything, or pin what somebody asks for."""
    use_cases = table.document["use_cases"].values()
    return frozenset(name for each in use_cases for field in ("callers", "override") for name in each.get(field, ()))


def policies_of(table: RouteTable) -> dict[str, Policy]:
    """By routing key, of all versions that a use case with settings of resilience may be answered by."""
    return {
        routing_key(*reference.split("@", 1)): policy
        for use_case in table.document["use_cases"].values()
        if (policy := Policy.of(use_case)) is not None
        for place, reference in references((), use_case)
        if place[0] != "shadow"
    }
