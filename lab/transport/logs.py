"""The log of a unit: lines of text for people, or of JSON for programs, with the ids of the trace that each is part of.

A line of JSON has ``time`` (ISO 8601, UTC), ``level``, ``logger``, ``message`` and ``unit``, as an Envoy's has. Within
a traced request it has ``trace_id`` and ``span_id``, too.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime

from lab.transport import tracing

VARIABLE = "LAB_LOG_AS_JSON"
"""Environment variable of a unit that logs lines of JSON: the unit's name. Without it, the log is text."""

_TEXT_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON; a traceback becomes part of the message."""

    def __init__(self, unit: str) -> None:
        super().__init__("%(message)s")
        self._unit = unit

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        document = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": super().format(record),
            "unit": self._unit,
            **tracing.ids(),
        }
        return json.dumps(document)  # in ASCII: nothing in it steers a terminal


def begin(level: int = logging.INFO) -> None:
    """Makes this process log to standard error, in the form that its environment says."""
    handler = logging.StreamHandler(sys.stderr)
    unit = os.environ.get(VARIABLE)
    handler.setFormatter(JsonFormatter(unit) if unit else logging.Formatter(_TEXT_FORMAT))
    logging.basicConfig(level=level, handlers=[handler])
