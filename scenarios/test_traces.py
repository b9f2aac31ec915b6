"""Real arrivals: a production trace, in full."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab import CHECKOUT
from lab.runs import LoadOptions
from scenarios.framework.steps import assert_all_answered_rightly

if TYPE_CHECKING:
    from lab.lab import Lab
    from scenarios.framework.scenario import Scenario

TRACE = CHECKOUT.parent / "shared" / "traces" / "azure-llm-2023-code.csv"
REQUESTS = 8_819


@pytest.mark.scenario(takes_s=25, long_on=("gateway-passthrough", "gateway-header", "proxyless"))
@pytest.mark.skipif(not TRACE.exists(), reason=f"the trace is not at {TRACE}")
@pytest.mark.timeout(300)
def test_a_production_trace_is_answered_in_full(scenario: Scenario, lab: Lab, topology: str) -> None:
    """The arrivals and sizes of a production trace are played, and every single one is answered rightly."""
    options = LoadOptions(topology=topology, caller="homepage", arrivals=f"trace:{TRACE}", speedup=150)

    with scenario.step(f"Play {REQUESTS:,} requests"):
        result = lab.load(options)

    assert REQUESTS == result.summary.planned == result.summary.ok
    assert_all_answered_rightly(result)
