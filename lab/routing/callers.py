"""Derived from a whole route table: the model versions that a caller may need, and the policy of each version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.routing.checks import references
from lab.routing.keys import routing_key
from lab.routing.resilience import Policy

if TYPE_CHECKING:
    from lab.routing.document import RouteTable


def keys_for(caller: str, table: RouteTable) -> frozenset[str]:
    """Routing keys of all versions that a decision for this caller may name: first choices, fallbacks and shadows."""
    found: set[str] = set()
    for use_case in table.document["use_cases"].values():
        if caller in use_case.get("override", ()):
            return frozenset(table.versions)
        if caller in use_case["callers"]:
            found.update(routing_key(*reference.split("@", 1)) for _, reference in references((), use_case))
    return frozenset(found)


def callers_of(table: RouteTable) -> frozenset[str]:
    """All callers that some use case allows, or allows to override."""
    use_cases = table.document["use_cases"].values()
    return frozenset(name for each in use_cases for field in ("callers", "override") for name in each.get(field, ()))


def policies_of(table: RouteTable) -> dict[str, Policy]:
    """Routing key → policy, for versions that may answer a use case with resilience settings."""
    return {
        routing_key(*reference.split("@", 1)): policy
        for use_case in table.document["use_cases"].values()
        if (policy := Policy.of(use_case)) is not None
        for place, reference in references((), use_case)
        if place[0] != "shadow"
    }
