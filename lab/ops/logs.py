"""What the units of a lab wrote about one request, found by its id."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.plan.units import ACCESS_LOG

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lab.plan.units import Unit
    from lab.runtime import Runtime

# As a request meets them.
_ON_THE_WAY = ("caller", "resolver", "gateway", "central-envoy", "sidecar", "model")
# Every unit writes at least so often; what was written a moment ago may still be on its way to the file.
_WRITTEN_WITHIN_S = 0.3
_LOOKS = 4


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of one unit.

    Attributes:
        fields: as the unit wrote them, by name.
    """

    unit: str
    role: str
    fields: Mapping[str, Any]


def lines_about(request_id: str, units: Sequence[Unit], folder: Path, runtime: Runtime) -> list[LogLine]:
    """All lines about a request, in the order of its way; waits for those that are still being written.

    Args:
        request_id: its id.
        units: whose logs are looked at; those that log no requests are passed over.
        folder: the lab's own.
        runtime: brings the logs there.
    """
    writing = sorted(
        (unit for unit in units if unit.logs_requests), key=lambda unit: (_ON_THE_WAY.index(unit.role), unit.name)
    )
    found: list[LogLine] = []
    for _ in range(_LOOKS):
        before = found
        runtime.fetch_logs(writing)
        found = [line for unit in writing for line in _lines(request_id, unit, folder)]
        if found and found == before:
            break
        time.sleep(_WRITTEN_WITHIN_S)
    return found


def _lines(request_id: str, unit: Unit, folder: Path) -> list[LogLine]:
    file = folder / "units" / unit.name / ACCESS_LOG
    if not file.exists():
        return []
    with file.open() as lines:
        fields = [json.loads(line) for line in lines if request_id in line and line.endswith("\n")]
    return [LogLine(unit.name, unit.role, each) for each in fields if each.get("request_id") == request_id]
