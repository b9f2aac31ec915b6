"""Real arrivals: a production trace, in full."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.runs import LoadOptions
from scenarios.framework.steps import assert_all_answered_rightly
from scenarios.framework.traces import REQUESTS, production_trace

if TYPE_CHECKING:
    from lab.lab import Lab
    from scenarios.framework.machine_lock import MachineLock
    from scenarios.framework.scenario import Scenario


@pytest.mark.scenario(
    takes_s=25,
    long_on=("gateway-passthrough", "gateway-header", "proxyless"),
    alone=True,
)
@pytest.mark.timeout(600)  # it may have to wait for the machine lock
def test_a_production_trace_is_answered_in_full(
    scenario: Scenario, lab: Lab, topology: str, tmp_path: Path, machine_lock: MachineLock
) -> None:
    """The arrivals and sizes of a production trace are played, and every single one is answered rightly."""
    trace = production_trace(tmp_path)
    options = LoadOptions(topology=topology, caller="homepage", arrivals=f"trace:{trace}", speedup=150)

    # At this speed it takes most of two cores.
    with machine_lock.exclusive(), scenario.step(f"Play {REQUESTS:,} requests"):
        result = lab.load(options)

    assert REQUESTS == result.summary.planned == result.summary.ok
    assert_all_answered_rightly(result)
