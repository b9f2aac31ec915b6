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

SHARED_LABS = {
    "the default lab": (
        *("docs/test_examples.py", "plugins/locust/test_load.py", "scenarios/test_framework.py"),
        *("e2e/test_bad_routes.py", "e2e/test_chain.py", "e2e/test_cli.py", "e2e/test_events.py", "e2e/test_load.py"),
        *("e2e/test_frozen_deciders.py", "e2e/test_frozen_driver.py", "e2e/test_multi_caller.py", "e2e/test_rest.py"),
        *("e2e/test_pause_in_latency.py", "e2e/test_publishing.py", "e2e/test_shadow.py", "e2e/test_sidecar.py"),
        *("e2e/test_stages.py", "e2e/test_tables.py", "e2e/test_tenants.py"),
    ),
    "the small lab": (
        *("faults", "resilience/test_reconnects.py", "e2e/test_callers.py", "e2e/test_logs.py", "e2e/test_metrics.py"),
        *("e2e/test_missing_evidence.py", "extending/test_outside_checker.py", "extending/test_outside_command.py"),
    ),
    "the lab of two callers": (
        *("e2e/test_authorisation.py", "e2e/test_outside_clients.py", "extending/test_outside_engine.py"),
    ),
}
"""Lab that stands up once → the modules and folders that share it."""
_SCOPES = (
    *((re.compile(rf"tests/(?:{'|'.join(map(re.escape, places))})[/:].*"), lab) for lab, places in SHARED_LABS.items()),
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
