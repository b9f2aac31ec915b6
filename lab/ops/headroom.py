"""How much of this machine is free before a run starts, and the rate of requests that fits it.

A driver that waits for a core sends late, so the latencies of its run describe the machine.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

_SAMPLE_S = 0.3
_PRESSURE = Path("/proc/pressure/cpu")  # https://docs.kernel.org/accounting/psi.html; not every kernel has it
_MOST_STOLEN, _MOST_WAITING, _LEAST_FREE = 0.05, 0.25, 0.5
_RPS_A_CORE = 50  # driver, proxies and models of the default lab together take less than half of a core for these
_LEAST_RPS = 10  # fewer are no sample, and the lab gets its share of a core that others use, too
_MOST_BYTES_A_SECOND = 40e6
_RATES = (1, 2, 5, 10, 20, 50, 100)  # rps; the last is that of an idle machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Headroom:
    """What is free of this machine.

    Attributes:
        cores: their number.
        free: cores that were idle, in the mean of a short time.
        stolen: share of the time that the host gave to other machines, 0 to 1.
        waiting: share of the last ten seconds in which some process waited for a core; None if the kernel cannot say.
        load: mean number of processes that ran or waited in the last minute.
    """

    cores: int
    free: float
    stolen: float
    waiting: float | None
    load: float

    @property
    def is_busy(self) -> bool:
        """Whether latencies measured now are likely to describe the machine."""
        waits = self.waiting is not None and self.waiting > _MOST_WAITING
        return waits or self.stolen > _MOST_STOLEN or self.free < _LEAST_FREE * self.cores

    def __str__(self) -> str:
        """In words, e.g. ``busy: 0.2 of 2 cores free, load 12.1, 3 % stolen, processes wait 60 % of the time``."""
        parts = [f"{self.free:.1f} of {self.cores} cores free", f"load {self.load:.1f}"]
        if round(100 * self.stolen):
            parts.append(f"{100 * self.stolen:.0f} % stolen")
        if self.waiting is not None:
            parts.append(f"processes wait {100 * self.waiting:.0f} % of the time")
        return f"{'busy' if self.is_busy else 'free'}: {', '.join(parts)}"

    def rate(self, *, payload_bytes: int, callers: int = 1) -> float:
        """The rate of each caller that fits this machine, rps: one of 1, 2, 5, 10, 20, 50 and 100."""
        by_cores = max(self.free * _RPS_A_CORE, _LEAST_RPS)
        fits = min(by_cores, _MOST_BYTES_A_SECOND / max(payload_bytes, 1)) / callers
        return max((rate for rate in _RATES if rate <= fits * _ROUNDING), default=_RATES[0])


_ROUNDING = 1.1  # a core that is idle but for the lab's own upkeep counts as free


def measure() -> Headroom:
    """Watches this machine for a third of a second."""
    before = psutil.cpu_times()
    time.sleep(_SAMPLE_S)
    after = psutil.cpu_times()
    took = {name: getattr(after, name) - getattr(before, name) for name in after._fields}
    # Linux counts guests' time as users' time, too.
    total = sum(of for name, of in took.items() if not name.startswith("guest")) or 1.0
    cores = psutil.cpu_count() or 1
    return Headroom(
        cores=cores,
        free=cores * (took["idle"] + took.get("iowait", 0.0)) / total,
        stolen=took.get("steal", 0.0) / total,
        waiting=waiting_in(_PRESSURE.read_text(encoding="ascii")) if _PRESSURE.exists() else None,
        load=os.getloadavg()[0],
    )


def waiting_in(pressure: str) -> float | None:
    """The share of the last ten seconds in which some process waited, by the kernel's text; None if it does not say."""
    found = re.search(r"^some avg10=([\d.]+)", pressure, re.MULTILINE)
    return None if found is None else float(found[1]) / 100
