"""The log of a unit: text, or lines of JSON."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from datetime import datetime

import pytest

from lab.transport import logs, tracing
from lab.transport.logs import JsonFormatter

PROGRAM = (
    "import logging; from lab.transport import logs; logs.begin(); logging.getLogger('a.b').info('it %s', 'works')"
)


def logged(**environment: str) -> str:
    """What a process of that environment logs."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    ).stderr


def record(message: str, *arguments: object, error: Exception | None = None) -> logging.LogRecord:
    info = None if error is None else (type(error), error, None)
    return logging.LogRecord("lab.unit", logging.WARNING, "file.py", 1, message, arguments, info)


def test_a_log_is_text_unless_its_unit_has_a_name_for_json() -> None:
    assert logged(LAB_LOG_AS_JSON="").endswith(" INFO a.b: it works\n")

    line = json.loads(logged(LAB_LOG_AS_JSON="gateway-1"))

    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line == {"level": "info", "logger": "a.b", "message": "it works", "unit": "gateway-1"}


@pytest.mark.parametrize("text", ["two\nlines", "\x1b[31m", "\ud800"])
def test_a_record_is_one_line_whatever_its_text_is(text: str) -> None:
    line = JsonFormatter("gateway-1").format(record("said %s", text, error=ValueError(text)))

    assert line.isprintable()
    assert json.loads(line)["message"].startswith("said ")


def test_a_line_within_a_traced_request_has_its_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "trace_id" not in json.loads(JsonFormatter("gateway-1").format(record("before")))
    ids = {"trace_id": "a" * 32, "span_id": "b" * 16}
    monkeypatch.setattr(tracing, "ids", lambda: ids)

    line = json.loads(JsonFormatter("gateway-1").format(record("within")))

    assert line.items() >= ids.items()
    assert logs.VARIABLE == "LAB_LOG_AS_JSON"
