"""Measures the third-party routers of docs/tokens.md beside the lab's pickers, in three cells of the crossover map."""

from __future__ import annotations

from typing import Any

from docs.site.measuring import figures_of, lab_json
from lab.plugins.bench.harness.crossover import LEAST_ROUNDS

_COMMAND = (
    "lab bench pickers --foreign vllm-router,vllm-router-neutral,smg,smg-neutral "
    f"--shares 0.5 --loads 50,90,130 --ages 50 --seconds 4 --rounds {LEAST_ROUNDS}"
)


def measure() -> dict[str, Any]:
    """What is kept of the bench.

    Raises:
        UnitError: the command ended without a result.
    """
    (bench,) = lab_json(f"{_COMMAND} --json")["benches"]
    found = figures_of(bench)
    return {**found, "ran": {**found["ran"], "command": _COMMAND}}
