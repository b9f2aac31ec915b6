"""The progress of a run: a JSON line soon after the start, then one per second."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from time import monotonic_ns
from typing import TypedDict, TypeVar

import orjson

from lab.errors import RunError

_T = TypeVar("_T")

_SUMMED = ("sent", "done", "ok", "failed", "in_flight", "rate")

FIRST_S = 0.1
LATENCY_BOUNDS_S = (
    *(0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Upper bounds of a progress report's counts of latencies, seconds."""

NS = 1_000_000_000
NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A driver's report.

    Attributes:
        elapsed_s: since the start of the schedule.
        sent: requests so far; the next likewise.
        in_flight: sent and not yet done.
        rate: requests per second that were done since the previous report.
        p50_ms: of the requests answered since the previous report, from their intended times, without streams; 0 if
            there were none.
        p99_ms: likewise.
        remaining_s: of the schedule; None if people decide when the run ends.
        latency_sum_s: of the same requests, seconds in total.
        latency_counts: their number by latency: up to each of :data:`LATENCY_BOUNDS_S`, and above the last.
    """

    elapsed_s: float
    sent: int
    done: int
    ok: int
    failed: int
    in_flight: int
    rate: float
    p50_ms: float
    p99_ms: float
    remaining_s: float | None
    latency_sum_s: float = 0.0
    latency_counts: list[int] = field(default_factory=list)

    def to_line(self) -> str:
        """As one JSON object."""
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def from_line(cls, line: str) -> Progress:
        """The inverse of :meth:`to_line`.

        Raises:
            RunError: the line is not a progress report.
        """
        try:
            return cls(**orjson.loads(line))
        except (TypeError, orjson.JSONDecodeError) as error:
            raise RunError(f"a driver's line is not progress: {line.strip()!r}") from error


def combined(several: Collection[Progress]) -> Progress:
    """The progress of one or more simultaneous runs: sums of counts and rates, percentiles of the slowest."""
    remaining = [each.remaining_s for each in several if each.remaining_s is not None]
    return Progress(
        elapsed_s=max(each.elapsed_s for each in several),
        **{name: sum(getattr(each, name) for each in several) for name in _SUMMED},
        p50_ms=max(each.p50_ms for each in several),
        p99_ms=max(each.p99_ms for each in several),
        remaining_s=max(remaining, default=None),
    )


class Counts(TypedDict):
    """How far a run or one process's share has come; see :meth:`ProgressLines.take` for the fields."""

    elapsed_ns: int
    remaining_ns: int
    sent: int
    done: int
    ok: int
    recent_ns: Sequence[int]


def summed(shares: Sequence[Counts]) -> Counts:
    """The counts of one or more shares of a run together."""
    return Counts(
        elapsed_ns=max(each["elapsed_ns"] for each in shares),
        remaining_ns=max(each["remaining_ns"] for each in shares),
        sent=sum(each["sent"] for each in shares),
        done=sum(each["done"] for each in shares),
        ok=sum(each["ok"] for each in shares),
        recent_ns=[latency for each in shares for latency in each["recent_ns"]],
    )


def rate_between(earlier: Counts, later: Counts) -> float:
    """Requests per second that one process did between two of its reports; 0 if they are the same."""
    since_ns = later["elapsed_ns"] - earlier["elapsed_ns"]
    return (later["done"] - earlier["done"]) * NS / since_ns if since_ns else 0.0


class ProgressLines:
    """Turns running counts into reports of what changed since the previous one."""

    def __init__(self) -> None:
        self._elapsed_ns = self._done = 0

    def take(
        self, *, elapsed_ns: int, remaining_ns: int | None, sent: int, done: int, ok: int, recent_ns: Iterable[int]
    ) -> Progress:
        """The next report.

        Args:
            elapsed_ns: since the start of the schedule; 0 or less before it.
            remaining_ns: of the schedule; 0 or less after its end; None if people decide when the run ends.
            sent: requests so far.
            done: how many of those are done.
            ok: how many of those were answered.
            recent_ns: latencies of the requests answered since the previous report, without streams, in any order.
        """
        elapsed_ns = max(0, elapsed_ns)
        since_ns, since_done = elapsed_ns - self._elapsed_ns, done - self._done
        self._elapsed_ns, self._done = elapsed_ns, done
        in_order = sorted(recent_ns)
        return Progress(
            elapsed_s=round(elapsed_ns / NS, 3),
            sent=sent,
            done=done,
            ok=ok,
            failed=done - ok,
            in_flight=sent - done,
            rate=round(since_done * NS / since_ns, 1) if since_ns else 0.0,
            p50_ms=percentile_ms(in_order, 50),
            p99_ms=percentile_ms(in_order, 99),
            remaining_s=None if remaining_ns is None else round(max(0, remaining_ns) / NS, 3),
            latency_sum_s=sum(in_order) / NS,
            latency_counts=_counts_of(in_order),
        )


def _counts_of(in_order: Sequence[int]) -> list[int]:
    """Numbers of durations between the bounds; ``in_order`` are nanoseconds."""
    ends = [bisect_right(in_order, bound * NS) for bound in LATENCY_BOUNDS_S]
    return [end - begin for begin, end in pairwise((0, *ends, len(in_order)))]


async def each_second(start_ns: int, report: Callable[[], None], *, after_s: float = 0.0) -> None:
    """Calls ``report`` ``after_s`` after each whole second since the start of the schedule, until it is cancelled.

    The first call comes :data:`FIRST_S` after the start, so that nobody waits a second for the first report. Seconds
    that this process was too busy for are skipped.
    """
    await asyncio.sleep(FIRST_S + after_s + (start_ns - monotonic_ns()) / NS)
    report()
    second = 0
    while True:
        elapsed_s = (monotonic_ns() - start_ns) / NS - after_s
        second = max(second, int(elapsed_s)) + 1
        await asyncio.sleep(second - elapsed_s)
        report()


def percentile_ms(sorted_ns: Sequence[int], percent: int) -> float:
    """Nearest-rank percentile of sorted durations, milliseconds; 0 if there are none."""
    if not sorted_ns:
        return 0.0
    return nearest_rank(sorted_ns, percent) / NS_PER_MS


def nearest_rank(in_order: Sequence[_T], percent: int) -> _T:
    """Nearest-rank percentile of sorted values, one or more."""
    return in_order[-(-len(in_order) * percent // 100) - 1]
