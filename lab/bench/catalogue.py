"""All benches by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.bench import (
    convergence,
    decomposition,
    driver,
    gateway_throughput,
    known_delay,
    large_table,
    recovery,
    routing,
    topologies,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lab.bench.result import BenchResult
    from lab.bench.setting import Setting

BENCHES: Mapping[str, Callable[[Setting, int], BenchResult]] = {
    module.NAME: module.run
    for module in (
        topologies,
        decomposition,
        gateway_throughput,
        known_delay,
        driver,
        recovery,
        routing,
        convergence,
        large_table,
    )
}
"""Name → bench, which takes a lab that is up and a number of rounds."""
