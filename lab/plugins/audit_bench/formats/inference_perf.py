"""inference-perf's ``summary_…`` and ``stage_N_lifecycle_metrics.json`` and its ``per_request_…`` (kubernetes-sigs).

``load_summary.schedule_delay`` is ``start_time - scheduled_time``, and the latency begins at ``start_time``
(inference_perf/reportgen/base.py, inference_perf/apis/base.py); ``concurrency`` is there in a closed loop only. A
worker sends at most ``worker_max_concurrency`` requests at once, 100 by default: more wait, which shows in the delay
alone.
"""

from __future__ import annotations

from typing import Any

from lab.plugins.audit_bench.audit import (
    Audit,
    Delay,
    Document,
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

_LATENCY = ("successes", "latency", "request_latency")


def recognises(document: object) -> bool:
    """Whether it is a summary, or a list of requests."""
    if isinstance(document, list):
        first = document[0] if document else None
        return numbers(first, ("start_time",), ("end_time",)) is not None
    return isinstance(at(document, "load_summary"), dict) and at(document, "successes") is not None


def audit(document: Any) -> list[Audit]:
    """The summary, or all requests together."""
    return [_of_requests(document) if isinstance(document, list) else _of_summary(document)]


def _of_summary(document: Document) -> Audit:
    summary = document["load_summary"]
    rate, concurrency = number(at(summary, "requested_rate")), number(at(summary, "concurrency"))
    load, reason = Load.UNKNOWN, "load_summary has neither requested_rate nor concurrency"
    if concurrency is not None:
        load, reason = Load.CLOSED, f"load_summary.concurrency is {concurrency:g}"
    elif rate is not None:
        load, reason = Load.OPEN, f"load_summary.requested_rate is {rate:g}, without concurrency"
    latency, delay = number(at(document, *_LATENCY, "p99")), number(at(summary, "schedule_delay", "p99"))
    return Audit(
        tool=FORMAT.name,
        benchmark=f"{rate:g}/s" if rate is not None else "",
        requests=int(number(at(document, "successes", "count")) or number(at(summary, "count")) or 0),
        load=load,
        load_reason=reason,
        delay=Delay.LEFT_OUT,
        delay_reason="request_latency begins at start_time; the wait is in load_summary.schedule_delay",
        published_p99_ms=None if latency is None else 1e3 * latency,
        published_as="successes.latency.request_latency p99",
        delay_p99_ms=None if delay is None else 1e3 * delay,
        scheduled_reason="percentiles of two figures do not add up: it needs scheduled_time of each request",
    )


def _of_requests(document: list[Any]) -> Audit:
    found = [each for each in objects(document) if not each.get("error")]
    spans = [its for each in found if (its := numbers(each, ("start_time",), ("end_time",)))]
    times = [
        Times(*its) for each in found if (its := numbers(each, ("scheduled_time",), ("start_time",), ("end_time",)))
    ]
    complete = bool(times) and len(times) == len(spans)
    schedule: dict[str, Any] = from_schedule(times) if complete else {}
    return Audit(
        tool=FORMAT.name,
        requests=len(spans),
        load=Load.UNKNOWN,
        load_reason="requests do not say what sent them: audit summary_lifecycle_metrics.json, too",
        delay=Delay.LEFT_OUT,
        delay_reason="the latency begins at start_time",
        published_p99_ms=p99_ms(end - start for start, end in spans),
        published_as="start_time to end_time",
        scheduled_reason="scheduled_time to end_time" if complete else "the requests have no scheduled_time",
        **schedule,
    )


FORMAT = Format(name="inference-perf", file="summary_lifecycle_metrics.json", recognises=recognises, audit=audit)
