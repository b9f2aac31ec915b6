"""The log of a unit: lines of text for people, or of JSON for programs, with the ids of the trace that each is part of.

A line of JSON has ``time`` (ISO 8601, UTC), ``level``, ``logger``, ``message`` and ``unit``, as an Envoy's has. Within
a traced request it has ``trace_id`` and ``span_id``, too. What else writes to standard error, such as gRPC's library or
the traceback of an error that nothing catches, becomes lines of the logger ``stderr``.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import sys
import threading
from datetime import UTC, datetime
from typing import TextIO

from lab.transport import tracing

VARIABLE = "LAB_LOG_AS_JSON"
"""Environment variable of a unit that logs lines of JSON: the unit's name. Without it, the log is text."""

_STDERR = 2
_REST_S = 1.0
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


class CapturingHandler(logging.StreamHandler[TextIO]):
    """Writes the log of a process whose standard error is captured."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Says nothing of a line that cannot be written, as on a full disk: that would be one more line to write."""


def begin(level: int = logging.INFO) -> None:
    """Makes this process log to standard error, in the form that its environment says."""
    unit = os.environ.get(VARIABLE)
    handler: logging.StreamHandler[TextIO] = logging.StreamHandler(sys.stderr)
    if unit:
        log = os.dup(_STDERR)
        handler = CapturingHandler(os.fdopen(log, "w"))
        _capture(log)
    handler.setFormatter(JsonFormatter(unit) if unit else logging.Formatter(_TEXT_FORMAT))
    logging.basicConfig(level=level, handlers=[handler])


def _capture(log: int) -> None:
    """Logs each line that is written to standard error from now on; at the end it is the file ``log`` again."""
    source, sink = os.pipe()
    os.dup2(sink, _STDERR)
    os.close(sink)

    def read() -> None:
        with os.fdopen(source, errors="backslashreplace") as lines:
            for line in lines:
                logging.getLogger("stderr").error("%s", line.rstrip("\n"))

    reader = threading.Thread(target=read, name="stderr", daemon=True)
    reader.start()

    def end() -> None:
        os.dup2(log, _STDERR)  # closes the pipe, so that the reader ends
        reader.join(_REST_S)

    atexit.register(end)
