"""Probes of nodes, as a run's folder has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.roles import Unit
from lab.roles._unit import Port
from lab.runs.unit_evidence import probed
from tests.load.builders import load_plan

TABLE = {"use_cases": {"Search": {"callers": ["search"]}, "Rows": {"callers": ["homepage", "search"]}}}


@pytest.mark.parametrize(
    ("topology", "asked"),
    [("mesh", ["homepage-resolver"]), ("direct", []), ("gateway", []), ("proxyless", ["homepage-resolver"])],
)
def test_every_node_that_decides_is_probed_by_who_may_ask_it(topology: str, asked: list[str]) -> None:
    port = Port("127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:1")
    names = [(caller, role) for caller in ("homepage", "search", "idle") for role in ("resolver", "sidecar")]
    units = [Unit(f"{caller}-{role}", role, (), port, pod=caller) for caller, role in names]
    units.append(Unit("gateway-1", "gateway", (), port, pod="gateway-1"))
    plan = load_plan(Path(), topology=topology)

    own, others = probed(units, plan, TABLE)

    assert [each.unit.name for each in own] == asked
    assert {each.unit.name: (each.use_case, each.caller) for each in (*own, *others)} == {
        "homepage-resolver": (plan.use_cases[0].name, "homepage"),
        "search-resolver": ("Search", "search"),
        "gateway-1": (plan.use_cases[0].name, "homepage"),
    }
