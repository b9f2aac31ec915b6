"""A production trace to play: the real one beside the project, or one like it that is made here."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from pathlib import Path

from lab import CHECKOUT

REQUESTS = 8_819
FIRST, FIRST_TOKENS = datetime(2023, 11, 16, 18, 17, 3, 979_960), 4_808  # noqa: DTZ001 (traces name no time zone)
SPAN_S = 3_435.9
_REAL = CHECKOUT.parent / "shared" / "traces" / "azure-llm-2023-code.csv"
_BURSTS = 700


def production_trace(folder: Path) -> Path:
    """Returns an hour of arrivals and sizes: the real trace, or if it is missing, one of its shape in ``folder``.

    The made one has as many requests over the same time, in bursts, with sizes from a few tokens to eight thousand.
    It is the same each time.
    """
    if _REAL.exists():
        return _REAL
    path = folder / "trace.csv"
    path.write_text(made_trace())
    return path


def made_trace() -> str:
    """Returns the text of the trace that is made here."""
    draw = random.Random(_BURSTS)  # noqa: S311 (no secret)
    bursts = [draw.uniform(0, SPAN_S) for _ in range(_BURSTS)]
    inner = (min(SPAN_S, draw.choice(bursts) + draw.expovariate(0.5)) for _ in range(REQUESTS - 2))
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    for number, offset_s in enumerate(sorted([0.0, *inner, SPAN_S])):
        tokens = min(8_000, round(draw.lognormvariate(7, 1.2)) + 1) if number else FIRST_TOKENS
        when = FIRST + timedelta(seconds=offset_s)
        lines.append(f"{when:%Y-%m-%d %H:%M:%S.%f}0,{tokens},{draw.randrange(1, 500)}")
    return "\n".join(lines) + "\n"
