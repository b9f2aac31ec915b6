"""All benches by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.bench import (
    balancing,
    convergence,
    driver,
    gateway_throughput,
    large_table,
    mesh_overhead,
    recovery,
    resolver,
    routing,
    streaming,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lab.bench.result import BenchResult
    from lab.bench.setting import Setting

BENCHES: Mapping[str, Callable[[Setting, int], BenchResult]] = {
    module.NAME: module.run
    for module in (
        mesh_overhead,
        gateway_throughput,
        driver,
        recovery,
        routing,
        convergence,
        large_table,
        streaming,
        balancing,
        resolver,
    )
}
"""Name → bench, which takes a lab that is up and a number of rounds."""
