"""The log of a unit: text, or lines of JSON."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from lab.transport import logs, tracing
from lab.transport.logs import CapturingHandler, JsonFormatter

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


def test_what_others_write_to_standard_error_is_json_too() -> None:
    program = "import os; from lab.transport import logs; logs.begin(); os.write(2, b'E1128 no \\xff\\n'); 1 / 0"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "LAB_LOG_AS_JSON": "gateway-1"},
        capture_output=True,
        text=True,
        check=False,
    )

    lines = [json.loads(line) for line in done.stderr.splitlines()]

    assert {(line["logger"], line["level"], line["unit"]) for line in lines} == {("stderr", "error", "gateway-1")}
    messages = [line["message"] for line in lines]
    assert (messages[0], messages[-1]) == ("E1128 no \\xff", "ZeroDivisionError: division by zero")


def test_a_line_that_a_full_disk_refuses_makes_no_further_line(capfd: pytest.CaptureFixture[str]) -> None:
    full = Path("/dev/full").open("w")  # noqa: SIM115 (closing it fails, too)
    CapturingHandler(full).handle(record("it works"))
    with pytest.raises(OSError, match="No space left"):
        full.close()

    assert capfd.readouterr() == ("", "")


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
