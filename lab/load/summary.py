"""The summary of a run's records, and the driver's own summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

from lab.errors import RunError
from lab.history import UNSENT
from lab.load.arrivals import NS
from lab.measure.latency import LatencyHistogram

if TYPE_CHECKING:
    from lab.history import Record
    from lab.load.arrivals import Schedule
    from lab.load.clocks import DriverReport

OK = "OK"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverSummary:
    """The driver's own summary; times in seconds or milliseconds, rates in requests per second.

    Attributes:
        planned: requests of the plan; each has one record.
        sent: how many of those were sent.
        ok: how many of those were answered.
        failed: how many of those sent were not.
        unsent: requests that were not due before the driver was stopped.
        stopped_by: name of the signal that stopped it, empty if it ran to its end.
        offered: planned rate; None if people or users decided when to send.
        achieved_rate: see :func:`achieved_rate`.
        wall_s: from the start of the schedule to the last answer.
        cpu_s: CPU time of the sending processes, all threads, in this time.
        niceness: of the driver, -20 to 19; it takes -10 if permitted. The highest of several processes.
        schedule_delay_p50_ms: how late requests were sent; shows a driver that cannot keep up.
        warm_up_errors: by use case, why its warm-up call failed.
        copies_dropped: shadow copies that were not sent, as too many were in flight.
        processes: number of processes that shared the requests.
        drivers: reports on the drivers that shared the requests, if there were several.
    """

    planned: int
    sent: int
    ok: int
    failed: int
    unsent: int
    stopped_by: str
    offered: float | None
    achieved_rate: float
    wall_s: float
    cpu_s: float
    niceness: int
    schedule_delay_p50_ms: float
    schedule_delay_p90_ms: float
    schedule_delay_p99_ms: float
    schedule_delay_p999_ms: float
    schedule_delay_max_ms: float
    warm_up_errors: Mapping[str, str]
    copies_dropped: int = 0
    processes: int = 1
    drivers: Sequence[DriverReport] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardResult:
    """What one process did of a run; times are on ``time.monotonic_ns``.

    Attributes:
        planned: requests of its share; the next counts are of these.
        planned_end_ns: end of the schedule, or the intended time of the first unsent request.
        last_sent_ns: when a request was last sent; the start, if none was.
        end_ns: when the last request was done.
        schedule_delays: how late requests were sent.

    The others are those of :class:`DriverSummary`.
    """

    planned: int
    sent: int
    ok: int
    stopped_by: str
    offered: float | None
    start_ns: int
    planned_end_ns: int
    last_sent_ns: int
    end_ns: int
    cpu_s: float
    niceness: int
    schedule_delays: LatencyHistogram
    warm_up_errors: Mapping[str, str]
    copies_dropped: int = 0

    def by_clock(self, ahead_ns: int) -> Self:
        """The same on a clock that this one is ahead of."""
        times = ("start_ns", "planned_end_ns", "last_sent_ns", "end_ns")
        return replace(self, **{name: getattr(self, name) - ahead_ns for name in times})

    def to_document(self) -> dict[str, Any]:
        """As a JSON object."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**own, "schedule_delays": self.schedule_delays.encode().decode()}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_document`."""
        delays = LatencyHistogram.decode(document["schedule_delays"].encode())
        return cls(**{**document, "schedule_delays": delays})


def merged(results: Sequence[ShardResult]) -> ShardResult:
    """What one process did that ran several plans at the same time."""
    delays = LatencyHistogram()
    for each in results:
        delays.add(each.schedule_delays)
    offered = [each.offered for each in results if each.offered is not None]
    return ShardResult(
        planned=sum(each.planned for each in results),
        sent=sum(each.sent for each in results),
        ok=sum(each.ok for each in results),
        stopped_by=next((each.stopped_by for each in results if each.stopped_by), ""),
        offered=sum(offered) if offered else None,
        start_ns=min(each.start_ns for each in results),
        planned_end_ns=min(each.planned_end_ns for each in results),
        last_sent_ns=max(each.last_sent_ns for each in results),
        end_ns=max(each.end_ns for each in results),
        cpu_s=max(each.cpu_s for each in results),  # each counts the whole process
        niceness=max(each.niceness for each in results),
        schedule_delays=delays,
        warm_up_errors={name: why for each in results for name, why in each.warm_up_errors.items()},
        copies_dropped=sum(each.copies_dropped for each in results),
    )


def combine(results: Sequence[ShardResult], drivers: Sequence[DriverReport] = ()) -> DriverSummary:
    """The driver's summary from the results of its processes, one or more; times of all must be on one clock."""
    whole = merged(results)
    delay = whole.schedule_delays.percentiles()
    return DriverSummary(
        planned=whole.planned,
        sent=whole.sent,
        ok=whole.ok,
        failed=whole.sent - whole.ok,
        unsent=whole.planned - whole.sent,
        stopped_by=whole.stopped_by,
        offered=whole.offered,
        achieved_rate=achieved_rate(
            whole.sent,
            start_ns=whole.start_ns,
            planned_end_ns=whole.planned_end_ns,
            last_sent_ns=whole.last_sent_ns,
        ),
        wall_s=max(0, whole.end_ns - whole.start_ns) / NS,
        cpu_s=sum(each.cpu_s for each in results),
        niceness=whole.niceness,
        schedule_delay_p50_ms=delay.p50_ms,
        schedule_delay_p90_ms=delay.p90_ms,
        schedule_delay_p99_ms=delay.p99_ms,
        schedule_delay_p999_ms=delay.p999_ms,
        schedule_delay_max_ms=delay.max_ms,
        warm_up_errors=whole.warm_up_errors,
        copies_dropped=whole.copies_dropped,
        processes=len(results),
        drivers=drivers,
    )


def require_no_problem(summary: DriverSummary) -> None:
    """Raises if a driver of several failed.

    Raises:
        RunError: the message says which, and why.
    """
    if problems := [f"{each.name} {each.problem}" for each in summary.drivers if each.problem]:
        raise RunError("; ".join(problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantSummary:
    """The summary of one tenant's records; see :class:`RunSummary` for the fields.

    Attributes:
        sent: requests that were sent.
    """

    sent: int
    ok: int
    failed: int
    by_status: Mapping[str, int]
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSummary:
    """The summary of the requests that were sent as streams; latencies are to the last item unless they say so.

    Attributes:
        sent: streams that were sent.
        ok: how many of those ended without an error.
        first_item_p50_ms: from sending to the first item, median of those that got one.
    """

    sent: int
    ok: int
    p50_ms: float
    p99_ms: float
    first_item_p50_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """The summary of a run's records. Latency counts from the intended time, milliseconds.

    Latency is of answered requests: how soon a request fails says nothing of how soon one is answered, so failed ones
    are counted beside it. Streams are kept apart.

    Attributes:
        planned: requests of the plan.
        offered: planned rate, requests per second; None if people or users decided when to send.
        achieved_rate: see :func:`achieved_rate`.
        ok: requests that were answered.
        failed: requests that were sent and not answered.
        missing: requests without a record: the driver was killed.
        by_status: number of records by status; ``UNSENT`` for those not due before the driver was stopped.
        p50_ms: median latency, 0 if nothing was answered; the next likewise.
        max_ms: the longest.
        schedule_delay_p99_ms: from the intended time to the sending.
        by_tenant: the same by tenant, if there was more than one; the empty name is for requests without one.
        streams: the requests that were sent as streams, which no other latency here covers; None if there were none.
    """

    planned: int
    offered: float | None
    achieved_rate: float
    ok: int
    failed: int
    missing: int
    by_status: Mapping[str, int]
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    schedule_delay_p99_ms: float
    by_tenant: Mapping[str, TenantSummary]
    streams: StreamSummary | None = None


def achieved_rate(sent: int, *, start_ns: int, planned_end_ns: int, last_sent_ns: int) -> float:
    """Requests per second actually sent; 0 for a run without duration.

    A late driver goes on sending after the end of the schedule. That time counts, so its rate is below the offered one
    although it sends every request in the end.

    Args:
        sent: number of requests.
        start_ns: start of the schedule.
        planned_end_ns: its end, or in a stopped run the intended time of the first unsent request.
        last_sent_ns: when the last was sent.
    """
    if planned_end_ns <= start_ns:
        return 0.0
    return sent * NS / (max(planned_end_ns, last_sent_ns) - start_ns)


def summarize(records: Sequence[Record], schedule: Schedule | None, *, came_due: int = 0) -> RunSummary:
    """Summarises a history.

    Args:
        records: of one run, in any order.
        schedule: see :meth:`lab.load.plan.LoadPlan.schedule`; None if there was none.
        came_due: number of requests that should be in the history, if there was no schedule.
    """
    planned = came_due if schedule is None else len(schedule)
    sent = [record for record in records if record.status != UNSENT]
    by_status = Counter(record.status for record in records)
    latency = latency_histogram(records).percentiles()
    delay = LatencyHistogram(max(0, record.sent_ns - record.intended_ns) for record in sent)
    return RunSummary(
        planned=planned,
        offered=None if schedule is None else schedule.offered_rps,
        achieved_rate=_achieved_rate(records, sent, schedule),
        ok=by_status[OK],
        failed=len(sent) - by_status[OK],
        missing=max(0, planned - len(records)),
        by_status=dict(by_status.most_common()),
        p50_ms=latency.p50_ms,
        p90_ms=latency.p90_ms,
        p99_ms=latency.p99_ms,
        p999_ms=latency.p999_ms,
        max_ms=latency.max_ms,
        schedule_delay_p99_ms=delay.value_at_ms(99),
        by_tenant=_by_tenant(sent),
        streams=_of_streams([record for record in sent if record.streamed]),
    )


def _by_tenant(sent: Sequence[Record]) -> dict[str, TenantSummary]:
    shares: dict[str, list[Record]] = {}
    for record in sent:
        shares.setdefault(record.tenant, []).append(record)
    return {tenant: _of_one_tenant(shares[tenant]) for tenant in sorted(shares)} if len(shares) > 1 else {}


def _of_streams(sent: Sequence[Record]) -> StreamSummary | None:
    if not sent:
        return None
    latency = LatencyHistogram(max(0, record.done_ns - record.intended_ns) for record in sent if record.status == OK)
    first = LatencyHistogram(record.first_item_ns for record in sent if record.items)
    return StreamSummary(
        sent=len(sent),
        ok=sum(record.status == OK for record in sent),
        p50_ms=latency.value_at_ms(50),
        p99_ms=latency.value_at_ms(99),
        first_item_p50_ms=first.value_at_ms(50),
    )


def _of_one_tenant(sent: Sequence[Record]) -> TenantSummary:
    by_status = Counter(record.status for record in sent)
    latency = latency_histogram(sent)
    return TenantSummary(
        sent=len(sent),
        ok=by_status[OK],
        failed=len(sent) - by_status[OK],
        by_status=dict(by_status.most_common()),
        p50_ms=latency.value_at_ms(50),
        p99_ms=latency.value_at_ms(99),
    )


def latency_histogram(records: Sequence[Record]) -> LatencyHistogram:
    """Latencies, from the intended times, of the requests that were answered by a single response."""
    return LatencyHistogram(
        max(0, record.done_ns - record.intended_ns) for record in records if record.status == OK and not record.streamed
    )


def _achieved_rate(records: Sequence[Record], sent: Sequence[Record], schedule: Schedule | None) -> float:
    if not sent:
        return 0.0
    if schedule is None:
        last = max(record.sent_ns for record in sent)
        return achieved_rate(
            len(sent), start_ns=min(record.intended_ns for record in sent), planned_end_ns=last, last_sent_ns=last
        )
    one = next((each for each in sent if 0 <= each.sequence < len(schedule)), None)
    if one is None:  # none of them was planned
        return 0.0
    start = one.intended_ns - schedule.offsets_ns[one.sequence]
    broke_off = min((record.intended_ns for record in records if record.status == UNSENT), default=None)
    return achieved_rate(
        len(sent),
        start_ns=start,
        planned_end_ns=start + schedule.duration_ns if broke_off is None else broke_off,
        last_sent_ns=max(record.sent_ns for record in sent),
    )
