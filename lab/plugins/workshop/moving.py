"""Moves callers of a lab to another topology while they send, and says what each step costs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from lab.plugins.bench.harness.environment import cpu_seconds
from lab.runs import LoadOptions
from lab.runs.moving import Moves
from lab.runs.moving import moving as _moving

if TYPE_CHECKING:
    from lab.lab import Lab

_AT_MOST_S = 300.0


def moving(lab: Lab, callers: Sequence[str], start: str, *, rate: float) -> AbstractContextManager[Moves]:
    """Callers send while the body runs, ``rate`` requests a second each, first all by the topology ``start``."""
    options = [
        LoadOptions(topology=start, caller=each, rate=rate, duration_s=_AT_MOST_S, seed=number)
        for number, each in enumerate(callers)
    ]
    return _moving(lab.load_mixture, lab.callers.use, options)


def cores(lab: Lab, *roles: str, seconds: float = 3.0) -> dict[str, float]:
    """The processor time that units of these roles use, in cores, over a time."""
    units = [unit for unit in lab.status().units if unit.role in roles and unit.pid]
    before, began = [cpu_seconds(unit.pid) for unit in units], time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    used = dict.fromkeys(roles, 0.0)
    for unit, was in zip(units, before, strict=True):
        used[unit.role] += (cpu_seconds(unit.pid) - was) / took
    return used
