"""The file of ``vllm bench serve --save-result`` (vllm-project/vllm, vllm/benchmarks/serve.py).

``request_rate`` is a number or ``inf``, ``max_concurrency`` null without a bound. With one, a request waits for its
semaphore before its clock starts, so the wait is left out. When requests were due is not in the file, also with
``--save-detailed``.
"""

from __future__ import annotations

import math

from lab.plugins.audit_bench.audit import Audit, Delay, Document, Format, Load, at, number

_P99 = (("p99_e2el_ms", "end to end"), ("p99_ttft_ms", "to the first token"))


def recognises(document: object) -> bool:
    """Whether it has the settings and counts of such a file."""
    return isinstance(document, dict) and {"request_rate", "completed", "request_throughput"} <= document.keys()


def audit(document: Document) -> list[Audit]:
    """The one benchmark of the file."""
    rate, bound = _rate(document["request_rate"]), number(document.get("max_concurrency"))
    if bound is not None:
        load, reason = Load.CLOSED, f"max_concurrency is {bound:g}: at the bound, an answer lets the next request go"
        delay, why = Delay.LEFT_OUT, "the clock starts after the semaphore of max_concurrency"
    elif "max_concurrency" not in document or rate is None:
        load, reason = Load.UNKNOWN, "request_rate or max_concurrency is missing"
        delay, why = Delay.UNKNOWN, reason
    else:
        sent = "all at once" if math.isinf(rate) else f"{rate:g}/s"
        load, reason = Load.OPEN, f"request_rate is {rate:g} ({sent}), max_concurrency is null"
        delay, why = Delay.UNKNOWN, "the file has no time at which a request was due"
    name, what = next((each for each in _P99 if number(at(document, each[0])) is not None), ("", "no p99"))
    return [
        Audit(
            tool=FORMAT.name,
            benchmark="" if rate is None else f"{rate:g}/s",
            requests=int(number(document["completed"]) or 0),
            load=load,
            load_reason=reason,
            delay=delay,
            delay_reason=why,
            published_p99_ms=number(at(document, name)) if name else None,
            published_as=f"{name}, {what}" if name else what,
            scheduled_reason="the file has no time at which a request was due",
        )
    ]


def _rate(value: object) -> float | None:
    if isinstance(value, str) and value.lower() in {"inf", "infinity"}:
        return math.inf
    if isinstance(value, float) and math.isinf(value):
        return value
    return number(value)


FORMAT = Format(name="vllm", file="the file of vllm bench serve --save-result", recognises=recognises, audit=audit)
