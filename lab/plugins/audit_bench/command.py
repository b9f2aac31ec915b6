"""``lab audit-bench``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lab.cli.options import Json
from lab.cli.output import console, print_json, table
from lab.plain_text import printable
from lab.plugins.audit_bench.reading import audited

if TYPE_CHECKING:
    from lab.plugins.audit_bench.audit import Audit


def audit_bench(
    file: Annotated[Path, typer.Argument(help="Result file of guidellm, inference-perf, aiperf or vllm bench serve.")],
    as_json: Json = False,
) -> None:
    """Say what a benchmark's result file shows: open or closed loop, and p99 counted from the schedule.

    A load generator that measures from when it sends leaves out how long a request waited to be sent: its p99 is too
    good just when the server is slow. *unknown* where the file cannot tell.

    Example: lab audit-bench benchmarks.json
    """
    found = audited(file)
    if as_json:
        print_json({"file": str(file), "benchmarks": [each.to_document() for each in found]})
        return
    _show(found)


def _show(found: Sequence[Audit]) -> None:
    headings = ("benchmark", "requests", "load", "wait before sending", "p99 as published", "p99 from schedule")
    console.print(table(headings, map(_row, found), right=headings[1:2] + headings[4:]))
    for name, of in (("load", "load_reason"), ("wait", "delay_reason"), ("published", "published_as")):
        _say(name, {str(getattr(each, of)) for each in found})
    _say("from schedule", {each.scheduled_reason for each in found})


def _row(audit: Audit) -> tuple[str, ...]:
    waited = "" if audit.delay_p99_ms is None else f", p99 {audit.delay_p99_ms:.1f} ms"
    factor = "" if audit.factor is None else f" (× {audit.factor:.2f})"
    return (
        printable(f"{audit.tool} {audit.benchmark}".strip(), 60),
        f"{audit.requests:,}",
        str(audit.load),
        f"{audit.delay}{waited}",
        _ms(audit.published_p99_ms),
        f"{_ms(audit.scheduled_p99_ms)}{factor}",
    )


def _ms(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} ms"


def _say(name: str, reasons: set[str]) -> None:
    for each in sorted(reasons):
        console.print(printable(f"{name}: {each}", 300), markup=False)
