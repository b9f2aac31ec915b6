"""All benches by name, and how one is run."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lab.bench.harness.bench import Bench
from lab.measure.findings import Ran
from lab.registry import Registry
from lab.runs.folder import machine_card

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.bench.harness.environment import Environment
    from lab.bench.harness.result import BenchResult

BENCHES = Registry(Bench, package="lab.bench.suites", group="routing_lab.benches", noun="bench")
"""Every bench that there is: the lab's, other distributions', and those of plugin files."""


def measure(bench: Bench, environment: Environment, rounds: int, **options: Sequence[str]) -> BenchResult:
    """Runs a bench; the result says which, when and where."""
    started, began = datetime.now(UTC), time.monotonic()
    result = bench.run(environment, rounds, **options)
    ran = Ran(
        started=started.isoformat(timespec="seconds"),
        took_s=round(time.monotonic() - began, 1),
        rounds=rounds,
        machine=machine_card(environment.ground()),
    )
    return replace(result, name=bench.name, ran=ran)
