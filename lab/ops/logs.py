"""Finds the lines that the units of a lab logged about one request, by its id."""

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

# Units flush their logs at least this often, so the last lines may still be missing from the file.
_FLUSH_INTERVAL_S = 0.3
_READS = 4


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of one unit's log.

    Attributes:
        fields: of the line, by the unit's own names.
    """

    unit: str
    role: str
    fields: Mapping[str, Any]


def lines_about(request_id: str, units: Sequence[Unit], folder: Path, runtime: Runtime) -> list[LogLine]:
    """All lines about a request, in the order of its path; waits for lines that are still being flushed.

    Args:
        request_id: of the request.
        units: units to search; those that log no requests are skipped.
        folder: of the lab.
        runtime: copies the logs into that folder.
    """
    order = _order()
    logging = sorted((unit for unit in units if unit.logs_requests), key=lambda unit: (order[unit.role], unit.name))
    found: list[LogLine] = []
    for _ in range(_READS):
        before = found
        runtime.fetch_logs(logging)
        found = [line for unit in logging for line in _lines(request_id, unit, folder)]
        if found and found == before:
            break
        time.sleep(_FLUSH_INTERVAL_S)
    return found


def _order() -> dict[str, int]:
    """Position of each role on a request's path: caller, roles it asks, roles that carry the payload, model."""
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
