"""aiperf's ``profile_export.jsonl`` (ai-dynamo/aiperf): a request a line.

A request's credit is issued when it is due, with a request rate or a fixed schedule; with ``--concurrency`` when a
place is free. The latency is ``request_end_ns - request_start_ns``: the wait between credit and start is left out. The
file does not say which of the two it was.
"""

from __future__ import annotations

from typing import Any

from lab.plugins.audit_bench.audit import (
    Audit,
    Delay,
    Format,
    Load,
    Times,
    at,
    from_schedule,
    number,
    numbers,
    objects,
    p99_ms,
)

_WARM_UP = "warmup"
_NS = 1e-9
_FROM_CREDITS = "credit_issued_ns to request_end_ns, which is from the schedule if a rate issued the credits"


def recognises(document: object) -> bool:
    """Whether a line has metadata with the times of a request."""
    return number(at(document, "metadata", "request_start_ns")) is not None


def audit(lines: list[Any]) -> list[Audit]:
    """All requests but those of the warm-up and those that failed."""
    found = [each for each in objects(lines) if not each.get("error") and _WARM_UP not in _phase(each)]
    latencies = [
        its / 1e3 for each in found if (its := number(at(each, "metrics", "request_latency", "value"))) is not None
    ]
    fields = (("credit_issued_ns",), ("request_start_ns",), ("request_end_ns",))
    # Differences first: as floats, nanoseconds since 1970 have a step of 256.
    times = [
        Times(0.0, _since(each, "request_start_ns"), _since(each, "request_end_ns"))
        for each in found
        if numbers(at(each, "metadata"), *fields)
    ]
    complete = bool(times) and len(times) >= len(latencies)
    schedule: dict[str, Any] = from_schedule(times) if complete else {}
    return [
        Audit(
            tool=FORMAT.name,
            requests=len(found),
            load=Load.UNKNOWN,
            load_reason="requests do not say whether a rate or free places issued their credits",
            delay=Delay.LEFT_OUT,
            delay_reason="request_latency begins at request_start_ns",
            published_p99_ms=p99_ms(latencies),
            published_as="metrics.request_latency of the requests in the file",
            scheduled_reason=_FROM_CREDITS if complete else "the requests have no credit_issued_ns",
            **schedule,
        )
    ]


def _phase(request: dict[str, Any]) -> str:
    metadata = request.get("metadata")
    return str(at(metadata, "benchmark_phase") or at(metadata, "credit_phase") or "")


def _since(request: dict[str, Any], field: str) -> float:
    return float(at(request, "metadata", field) - at(request, "metadata", "credit_issued_ns")) * _NS


FORMAT = Format(name="aiperf", file="profile_export.jsonl", recognises=recognises, audit=audit, by_lines=True)
