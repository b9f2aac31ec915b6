"""All benches by name, and how one is run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lab.bench.harness.bench import Bench
from lab.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.bench.harness.environment import Environment
    from lab.bench.harness.result import BenchResult

BENCHES = Registry(Bench, package="lab.bench.suites", group="routing_lab.benches", noun="bench")
"""Every bench that there is: the lab's, other distributions', and those of plugin files."""


def measure(bench: Bench, environment: Environment, rounds: int, **options: Sequence[str]) -> BenchResult:
    """Runs a bench; the result says which, when and where."""
    return replace(environment.recorded(lambda: bench.run(environment, rounds, **options), rounds), name=bench.name)
