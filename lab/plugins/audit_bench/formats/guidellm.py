"""guidellm's ``benchmarks.json`` (vllm-project/guidellm).

Times of requests: src/guidellm/schemas/base/info.py. ``request_latency`` begins when the request is sent, and
``request_scheduled_latency`` when it was due, which only strategies with a schedule define: constant, poisson and trace
(src/guidellm/schemas/base/request_stats.py). The requests in a file may be a sample of all
(src/guidellm/benchmark/schemas/generative/benchmark.py).
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

_OPEN, _CLOSED = ("constant", "poisson", "trace"), ("synchronous", "concurrent", "throughput")


def recognises(document: object) -> bool:
    """Whether each benchmark has a configuration and requests by outcome."""
    benchmarks = list(objects(at(document, "benchmarks")))
    return bool(benchmarks) and all(
        isinstance(at(each, "requests", "successful"), list) or at(each, "metrics", "request_latency") is not None
        for each in benchmarks
    )


def audit(document: Document) -> list[Audit]:
    """One for each benchmark, such as the rates of a sweep."""
    return [_audit(each) for each in objects(document["benchmarks"])]


def _audit(benchmark: Document) -> Audit:
    strategy = at(benchmark, "config", "strategy")
    kind = at(strategy, "type_")
    load = Load.OPEN if kind in _OPEN else Load.CLOSED if kind in _CLOSED else Load.UNKNOWN
    found = list(objects(at(benchmark, "requests", "successful")))
    times = [
        Times(*its)
        for each in found
        if (its := numbers(at(each, "info", "timings"), ("targeted_start",), ("request_start",), ("request_end",)))
    ]
    published, published_as = _published(benchmark, times)
    schedule: dict[str, Any] = from_schedule(times) if load is Load.OPEN else {}
    reason = "targeted_start to request_end"
    if load is Load.CLOSED:
        reason = "a closed loop has no schedule"
    elif load is Load.UNKNOWN:
        reason = "whether there was a schedule is not known"
    elif not times:
        reason = "no request in the file has targeted_start and request_end"
    rate = number(at(strategy, "rate"))
    return Audit(
        tool=FORMAT.name,
        benchmark=" ".join(filter(None, (str(kind or ""), f"{rate:g}/s" if rate else ""))),
        requests=len(times) or len(found),
        load=load,
        load_reason=f"config.strategy.type_ is {kind}" if kind else "config.strategy.type_ is missing",
        delay=Delay.LEFT_OUT if load is Load.OPEN else Delay.UNKNOWN,
        delay_reason="request_latency begins at request_start" if load is Load.OPEN else reason,
        published_p99_ms=published,
        published_as=published_as,
        scheduled_reason=reason,
        **schedule,
    )


def _published(benchmark: Document, times: list[Times]) -> tuple[float | None, str]:
    seconds = number(at(benchmark, "metrics", "request_latency", "successful", "percentiles", "p99"))
    if seconds is not None:
        return 1e3 * seconds, "metrics.request_latency.successful p99"
    return p99_ms(each.done - each.sent for each in times), "request_start to request_end of the requests in the file"


FORMAT = Format(name="guidellm", file="benchmarks.json", recognises=recognises, audit=audit)
