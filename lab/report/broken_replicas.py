"""In sentences: the callers that a fault at model replicas reached, such as a slow one, by who answered. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lab.report.digits import in_two_digits
from lab.runs.events import Event, undone_ns

if TYPE_CHECKING:
    import numpy.typing as npt

    from lab.report.run import ReportedRun

_FOREVER = 1 << 62


def reached(runs: Sequence[ReportedRun]) -> list[str]:
    """One sentence for each fault whose replicas answered while it lasted: whom, how often, and how late."""
    events = dict.fromkeys(event for run in runs for event in run.events if event.is_fault)
    return [sentence for event in events if (sentence := _sentence(event, runs))]


def _sentence(event: Event, runs: Sequence[ReportedRun]) -> str:
    by_caller: dict[str, list[ReportedRun]] = {}
    for run in runs:
        by_caller.setdefault(run.plan.caller, []).append(run)
    hits = {caller: [*_hits(event, of)] for caller, of in by_caller.items()}
    counts = {caller: sum(int(hit.sum()) for *_, hit in each) for caller, each in hits.items()}
    if not any(counts.values()):
        return ""
    parts = []
    for caller, count in counts.items():
        if count:
            of = sum(int(there.sum()) for _, there, _ in hits[caller])
            parts.append(f"{count:,} of {of:,} requests of {caller}{_latencies(hits[caller])}")
    spared = [caller for caller, count in counts.items() if not count]
    unseen = sorted({each for run in runs for each in run.may_reach(event.target)} - counts.keys())
    more = [f"none of {_and(spared)}"] if spared else []
    if unseen:
        more.append(f"by the route table it can also reach {_and(unseen)}")
    detail = f" ({event.detail})" if event.detail else ""
    what = f"{event.target} was {event.past}{detail}"
    return "; ".join([f"While {what}, it answered {_and(parts)}", *more]) + "."


def _hits(
    event: Event, runs: Sequence[ReportedRun]
) -> Iterator[tuple[ReportedRun, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]:
    """For each row of a run: whether it was sent while this lasted, and whether the target then answered it."""
    for run in runs:
        sent = run.history.numbers("sent_ns")
        there = run.is_sent & (sent >= event.from_ns) & (sent < (undone_ns(event, run.events) or _FOREVER))
        by = run.history.is_word("replica", event.target) | run.history.is_word("cluster", event.target)
        yield run, there, there & by & run.is_ok


def _latencies(hits: Sequence[tuple[ReportedRun, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]) -> str:
    """The median latency of those that the target answered, and of the others of that time."""
    inside = np.concatenate([run.latencies_ms[hit[run.rows_timed]] for run, _, hit in hits])
    beside = np.concatenate([run.latencies_ms[(there & ~hit)[run.rows_timed]] for run, there, hit in hits])
    if not inside.size or not beside.size:
        return ""
    return f" (p50 {in_two_digits(float(np.median(inside)))} ms, others {in_two_digits(float(np.median(beside)))} ms)"


def _and(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
