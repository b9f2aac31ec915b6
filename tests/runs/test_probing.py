"""Probes of resolvers, as a run's folder has them."""

from __future__ import annotations

import pytest

from lab.roles import Unit
from lab.roles._unit import Port
from lab.runs.unit_evidence import probed


@pytest.mark.parametrize(
    ("topology", "expected"),
    [("mesh", ["homepage-resolver"]), ("direct", []), ("gateway", []), ("proxyless", ["homepage-resolver"])],
)
def test_the_resolver_that_the_requests_ask_is_probed_and_no_other(topology: str, expected: list[str]) -> None:
    port = Port("127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:1")
    units = [
        Unit(f"{caller}-{role}", role, (), port, pod=caller)
        for caller in ("homepage", "search")
        for role in ("resolver", "sidecar")
    ]

    assert [each.name for each in probed(units, topology, "homepage")] == expected
