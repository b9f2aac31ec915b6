"""What workers say of themselves in the end, and what it adds up to."""

from __future__ import annotations

import os
from array import array
from dataclasses import asdict, dataclass, field
from itertools import chain
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from lab.load.arrivals import NS
from lab.load.summary import DriverSummary, achieved_rate
from lab.measure.latency import LatencyHistogram

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.load.arrivals import Schedule
    from lab.load.steered.sender import Sender


@dataclass(slots=True, kw_only=True)
class Account:
    """One worker's; times are those of ``time.monotonic_ns``.

    Attributes:
        start_ns: start of the schedule; without one, when the first request was due. 0 if nothing began.
        schedule_delays_ns: how late each request was sent.
    """

    index: int = 0
    sent: int = 0
    ok: int = 0
    start_ns: int = 0
    last_sent_ns: int = 0
    end_ns: int = 0
    cpu_s: float = 0.0
    niceness: int = 0
    schedule_delays_ns: array[int] = field(default_factory=lambda: array("q"))
    warm_up_errors: dict[str, str] = field(default_factory=dict)

    def fill(self, index: int, sender: Sender, cpu_s: float) -> None:
        """Takes what the sender has done."""
        self.index, self.sent, self.ok = index, sender.sent, sender.recorder.ok
        self.start_ns = self.start_ns or sender.first_due_ns
        self.last_sent_ns, self.end_ns = sender.last_sent_ns, monotonic_ns()
        self.cpu_s, self.niceness = cpu_s, os.getpriority(os.PRIO_PROCESS, 0)
        self.schedule_delays_ns = sender.recorder.schedule_delays_ns

    def to_message(self) -> dict[str, Any]:
        """For Locust's connection."""
        return {**asdict(self), "schedule_delays_ns": self.schedule_delays_ns.tobytes()}

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Account:
        """The inverse of :meth:`to_message`."""
        return cls(**{**message, "schedule_delays_ns": array("q", message["schedule_delays_ns"])})


def add_up(accounts: Sequence[Account], schedule: Schedule | None, *, stopped_by: str) -> DriverSummary:
    """The driver's account of a run.

    Args:
        accounts: of all workers; one or more.
        schedule: of the run; None if people or users decided when requests were sent. What was planned is then what
            came due.
        stopped_by: see :class:`DriverSummary`.
    """
    sent = sum(each.sent for each in accounts)
    ok = sum(each.ok for each in accounts)
    planned = sent if schedule is None else len(schedule)
    start_ns = min((each.start_ns for each in accounts if each.start_ns), default=0)
    last_sent_ns = max(each.last_sent_ns for each in accounts)
    end_ns = max(each.end_ns for each in accounts)
    planned_end_ns = last_sent_ns if schedule is None or stopped_by else start_ns + schedule.duration_ns
    delay = LatencyHistogram(chain.from_iterable(each.schedule_delays_ns for each in accounts)).percentiles()
    return DriverSummary(
        planned=planned,
        sent=sent,
        ok=ok,
        failed=sent - ok,
        unsent=planned - sent,
        stopped_by=stopped_by,
        offered=None if schedule is None else schedule.offered_rps,
        achieved_rate=achieved_rate(sent, start_ns=start_ns, planned_end_ns=planned_end_ns, last_sent_ns=last_sent_ns),
        wall_s=max(0, end_ns - start_ns) / NS if start_ns else 0.0,
        cpu_s=sum(each.cpu_s for each in accounts),
        niceness=max(each.niceness for each in accounts),
        schedule_delay_p50_ms=delay.p50_ms,
        schedule_delay_p90_ms=delay.p90_ms,
        schedule_delay_p99_ms=delay.p99_ms,
        schedule_delay_p999_ms=delay.p999_ms,
        schedule_delay_max_ms=delay.max_ms,
        warm_up_errors={name: why for each in accounts for name, why in each.warm_up_errors.items()},
    )
