"""How tests are dealt out to workers: those that share a lab go to the same one, and those that take long go first."""

from __future__ import annotations

import re

from xdist.scheduler import LoadScopeScheduling

LONG_ONES_FIRST = (
    "e2e",
    "notebooks",
    "plugins/bench",
    "test_docs.py",
    "runtime",
    "docs",
    "plugins/workshop",
    "faults",
    "negative",
    "scenarios",
)
"""Folders and files that take long as a whole. What is short is left for the end, so that all workers end together."""

DEFAULT_LAB = (
    *("bad_routes", "chain", "cli", "events", "load", "pause_in_latency", "publishing", "shadow", "sidecar"),
    *("tenants", "multi_caller"),
)
"""Modules of e2e that are about the default lab alone, which stands up once."""
_SCOPES = (
    (
        re.compile(rf"tests/(?:e2e/test_({'|'.join(DEFAULT_LAB)})|plugins/locust/test_load)\.py::.*"),
        "the default lab",
    ),
    (
        re.compile(r"tests/runtime/test_(?:faults|unit_operations)\.py::.*\[(process|compose)\b.*"),
        r"a lab to break, \1",
    ),
    (
        re.compile(r"tests/plugins/bench/test_(?:benches|blast_radius)\.py::.*"),
        "the benches' lab",
    ),
    (re.compile(r"tests/notebooks/test_notebooks\.py::.*"), r"\g<0>"),
)
"""Which tests go together, unless it is those of a module, as a rule: pattern of their ids → name, from the match."""


def order_of(nodeid: str) -> tuple[int, bool, str]:
    """By what tests are sorted: those that share a lab stand together, in front of the others of their folder."""
    scope = scope_of(nodeid)
    is_module = scope == nodeid.partition("::")[0]
    return place_of(nodeid), is_module, "" if is_module else scope


def place_of(nodeid: str) -> int:
    """Where in the order a test belongs."""
    rooms = (number for number, room in enumerate(LONG_ONES_FIRST) if re.match(f"tests/{room}(/|::)", nodeid))
    return next(rooms, len(LONG_ONES_FIRST))


class ByLab(LoadScopeScheduling):  # type: ignore[misc]  # xdist carries no types
    """Deals out what shares a lab as a whole, and in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


def scope_of(nodeid: str) -> str:
    """The name of those that a test goes together with."""
    for pattern, name in _SCOPES:
        if match := pattern.fullmatch(nodeid):
            return match.expand(name)
    return nodeid.partition("::")[0]
