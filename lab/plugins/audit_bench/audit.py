"""The findings about one benchmark in a file, and the arithmetic that all formats share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

Document = Mapping[str, Any]


class Load(StrEnum):
    """How a generator decides when to send."""

    OPEN = "open"
    CLOSED = "closed"
    UNKNOWN = "unknown"


class Delay(StrEnum):
    """What happened to the time from when a request was due until it was sent."""

    LEFT_OUT = "left out"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What a file shows of one benchmark.

    Attributes:
        tool: that wrote it.
        benchmark: which one of several in the file, in its own words; empty if there is one.
        requests: successful ones of which it has times, or says that there were.
        load: open or closed loop.
        load_reason: what in the file says so, or why nothing does.
        delay: whether the published latency contains the wait before sending.
        delay_reason: likewise.
        published_p99_ms: as the tool reports it, or from the latencies as it defines them; None if there is none.
        published_as: which figure that is.
        scheduled_p99_ms: of the time from when each request was due to its end; None if the file cannot tell.
        scheduled_reason: from which fields, or why it cannot.
        delay_p99_ms: of the wait before sending; None if the file cannot tell.
    """

    tool: str
    benchmark: str = ""
    requests: int
    load: Load
    load_reason: str
    delay: Delay
    delay_reason: str
    published_p99_ms: float | None
    published_as: str
    scheduled_p99_ms: float | None = None
    scheduled_reason: str
    delay_p99_ms: float | None = None

    @property
    def factor(self) -> float | None:
        """How many times the published figure the one from the schedule is."""
        if not self.published_p99_ms or self.scheduled_p99_ms is None:
            return None
        return self.scheduled_p99_ms / self.published_p99_ms

    def to_document(self) -> dict[str, Any]:
        """As ``--json`` prints it; what is not known is None."""
        return {**asdict(self), "factor": self.factor}


@dataclass(frozen=True, slots=True)
class Times:
    """When one request was due, sent and done, seconds on one clock."""

    due: float
    sent: float
    done: float


def p99_ms(seconds: Iterable[float]) -> float | None:
    """The 99th percentile by nearest rank, in milliseconds; None of nothing."""
    ordered = sorted(seconds)
    return 1e3 * ordered[math.ceil(0.99 * len(ordered)) - 1] if ordered else None


def from_schedule(times: Sequence[Times]) -> dict[str, float | None]:
    """The fields of an :class:`Audit` that follow from times of requests with a schedule."""
    return {
        "scheduled_p99_ms": p99_ms(each.done - each.due for each in times),
        "delay_p99_ms": p99_ms(each.sent - each.due for each in times),
    }


def number(value: object) -> float | None:
    """A finite number as a float; None for anything else, a truth value among it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def at(document: object, *path: str) -> Any:
    """What is at a path of names; None if a step is missing."""
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def numbers(document: object, *paths: Sequence[str]) -> list[float] | None:
    """The numbers at several paths; None unless all are there."""
    found = [number(at(document, *path)) for path in paths]
    return None if None in found else [each for each in found if each is not None]


def objects(values: object) -> Iterator[dict[str, Any]]:
    """The JSON objects in a list."""
    for each in values if isinstance(values, list) else ():
        if isinstance(each, dict):
            yield each


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A result file's form: a module of :mod:`lab.plugins.audit_bench.formats` defines such a value.

    Attributes:
        name: of the tool.
        file: what its file is called, for messages.
        recognises: whether a document is such a file; for lines of JSON, of its first line.
        audit: the findings, one for each benchmark in it.
        by_lines: whether the file has one JSON object a line; ``audit`` gets a list of them then.
    """

    name: str
    file: str
    recognises: Callable[[object], bool]
    audit: Callable[[Any], list[Audit]]
    by_lines: bool = False
