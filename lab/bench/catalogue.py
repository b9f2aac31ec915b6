"""All benches by name."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lab.bench.suites import (
    balancing,
    blast_radius,
    capacity,
    convergence,
    decomposition,
    driver,
    encodings,
    gateway_throughput,
    known_delay,
    large_table,
    on_demand,
    recovery,
    resolver,
    routing,
    streaming,
    throughput,
    topologies,
)
from lab.measure.findings import Ran
from lab.runs.folder import machine_card

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lab.bench.harness.environment import Setting
    from lab.bench.harness.result import BenchResult

BENCHES: Mapping[str, Callable[[Setting, int], BenchResult]] = {
    module.NAME: module.run
    for module in (
        topologies,
        decomposition,
        throughput,
        gateway_throughput,
        encodings,
        streaming,
        balancing,
        resolver,
        known_delay,
        driver,
        recovery,
        blast_radius,
        routing,
        convergence,
        large_table,
        on_demand,
        capacity,
    )
}
"""Name → bench, which takes a lab that is up and a number of rounds."""

USUAL_ROUNDS: Mapping[str, int] = {blast_radius.NAME: blast_radius.ROUNDS, on_demand.NAME: on_demand.ROUNDS}
"""Rounds of those that do not take :data:`ROUNDS`, if nobody says how many."""

ROUNDS = 10


def measure(name: str, setting: Setting, rounds: int) -> BenchResult:
    """Runs a bench, and writes down when and where it ran."""
    started, began = datetime.now(UTC), time.monotonic()
    result = BENCHES[name](setting, rounds)
    ran = Ran(
        started=started.isoformat(timespec="seconds"),
        took_s=round(time.monotonic() - began, 1),
        rounds=rounds,
        machine=machine_card(setting.ground()),
    )
    return replace(result, ran=ran)
