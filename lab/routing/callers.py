"""Which model versions a caller may come to need, by a whole route table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.routing.checks import references
from lab.routing.keys import routing_key

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
