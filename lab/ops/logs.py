"""What the units of a lab wrote about one request, found by its id."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.roles import ACCESS_LOG, CALLER, MODEL, ROLES
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lab.roles import Unit
    from lab.runtime import Runtime

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
    order = _order()
    writing = sorted((unit for unit in units if unit.logs_requests), key=lambda unit: (order[unit.role], unit.name))
    found: list[LogLine] = []
    for _ in range(_LOOKS):
        before = found
        runtime.fetch_logs(writing)
        found = [line for unit in writing for line in _lines(request_id, unit, folder)]
        if found and found == before:
            break
        time.sleep(_WRITTEN_WITHIN_S)
    return found


def _order() -> dict[str, int]:
    """Roles in the order in which a request meets them: caller, who is asked, who carries the payload, model."""
    topologies = TOPOLOGIES.values()
    asked = (role for each in topologies for role in each.asks)
    between = (role for each in topologies for role in each.between)
    return {role: number for number, role in enumerate(dict.fromkeys((CALLER, *asked, *between, MODEL)))}


def _lines(request_id: str, unit: Unit, folder: Path) -> list[LogLine]:
    file = folder / "units" / unit.name / ACCESS_LOG
    if not file.exists():
        return []
    with file.open() as lines:
        read = ROLES[unit.role].read_log_line
        fields = [read(line) for line in lines if request_id in line and line.endswith("\n")]
    return [LogLine(unit.name, unit.role, each) for each in fields if each.get("request_id") == request_id]
