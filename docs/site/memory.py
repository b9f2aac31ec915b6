"""Measures the memory of labs, as `lab status` reports it, several times because it varies."""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from lab.lab import Lab

SIZES = ("mini", "default")
ROUNDS = 3


def measure() -> dict[str, Any]:
    """Megabytes (10^6 bytes) of all units of a lab after it has been verified, by the lab's size.

    The result has the form of a bench: median over rounds; the interval spans all measured values.
    """
    seen = {size: [_megabytes(size) for _ in range(ROUNDS)] for size in SIZES}
    figures: dict[str, Any] = {
        f"{size}-mb": {
            "text": f"memory of the {size} lab, MB",
            "estimate": median(values),
            # A small margin, so that small differences between days are no change.
            "low": min(values) * 0.95,
            "high": max(values) * 1.05,
            "confidence": 1.0,
            "rounds": ROUNDS,
            "at_least": None,
            "at_most": None,
            "state": "holds",
            "doubts": [],
        }
        for size, values in seen.items()
    }
    return {"ran": {"rounds": ROUNDS, "command": "make figures ARGS=--only"}, "figures": figures, "tables": []}


def _megabytes(size: str) -> float:
    with tempfile.TemporaryDirectory() as home:
        lab = Lab(f"memory-{secrets.token_hex(3)}", home=Path(home))
        try:
            lab.up(spec=Path(size), runtime="process")
            return sum(unit.memory_bytes for unit in lab.status(memory=True).units) / 1e6
        finally:
            lab.down()
