"""The audit log: who published, rolled back or injected a fault, and who was refused.

It is stored in the registry beside the revisions: durable, append-only, in the same order. Other units report their
acts with their registration.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf import timestamp_pb2

from lab.plain_text import MAX_CHARACTERS, printable
from lab.transport.rpc_logs import REFUSED, Act, in_one_line
from models.proto.control.v1 import acts_pb2, admin_pb2, faults_pb2
from services.controlplane.registry.revisions import Registry, best_effort

if TYPE_CHECKING:
    from google.protobuf.message import Message


log = logging.getLogger(__name__)

_ADMIN = admin_pb2.DESCRIPTOR.services_by_name["Admin"].full_name
_FAULTS = faults_pb2.DESCRIPTOR.services_by_name["Faults"].full_name
METHODS = (
    *(f"/{_ADMIN}/{each}" for each in ("Publish", "PublishChange", "Rollback", "AdmitNode")),
    *(f"/{_FAULTS}/{each}" for each in ("Offer", "Restate")),
)
"""Paths of the RPCs that change something."""

# Refused callers must not be able to fill the disk, nor hide one another: each identity has so many refusals a period.
# The last of a period says that more are left out. Its own entry says how many were: every few seconds, so that a
# process that is killed loses few of them, or else the next refusal that is stored.
_MOST_REFUSALS, _WITHIN_S = 60, 60.0
REPORT_EVERY_S = 5.0
"""Between two entries that count an identity's refusals which were left out."""
# Identities with their own period. All others share one: in plaintext an identity is an address.
_MOST_IDENTITIES = 256
_OTHERS = "others"


@dataclass(slots=True)
class _Period:
    """One identity's refusals since ``began``, seconds on the monotonic clock; ``left_out`` since the last report."""

    began: float
    refusals: int = 0
    left_out: int = 0


class AuditLog:
    """Writes acts to the registry; implements :class:`lab.transport.rpc_logs.Journal`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._periods: dict[str, _Period] = {}

    def begin(self, act: Act) -> int:
        """Stores an act before it is carried out; durable when this returns."""
        return self._registry.begin_act(act)

    def end(self, number: int, status: str, reason: str) -> None:
        """Stores the outcome of an act, if the store works; the act is done in any case."""
        with best_effort("audit log: "):
            self._registry.end_act(number, status, reason)

    def take_over(self, unit: str, acts: Iterable[acts_pb2.Act]) -> None:
        """Stores acts that another unit reports."""
        for each in acts:
            who, what, detail, status, reason = (
                printable(text, MAX_CHARACTERS) for text in (each.who, each.what, each.detail, each.status, each.reason)
            )
            self._whole(Act(each.at.ToNanoseconds(), who, unit, what, detail), status, reason)

    def refused(self, act: Act, reason: str) -> None:
        """Stores an act that was refused."""
        self._whole(act, REFUSED, reason)

    def report_left_out(self) -> None:
        """Stores how many refusals of each identity were left out since the last report."""
        for who, period in self._periods.items():
            if period.left_out:
                act = Act(self._registry.clock.now_ns(), who, "control-plane", "refusals", "")
                with best_effort("audit log: "):
                    reason = f"{period.left_out} refusals were left out"
                    self._registry.end_act(self._registry.begin_act(act), REFUSED, reason)
                    period.left_out = 0

    async def report_regularly(self) -> None:
        """Reports refusals that were left out, until cancelled; then all of them."""
        try:
            while True:
                await asyncio.sleep(REPORT_EVERY_S)
                self.report_left_out()
        finally:
            self.report_left_out()

    def _whole(self, act: Act, status: str, reason: str) -> None:
        if status == REFUSED:
            note = self._note(act.who)
            if note is None:
                return
            reason += note
        with best_effort("audit log: "):
            self._registry.end_act(self._registry.begin_act(act), status, reason)

    def _note(self, who: str) -> str | None:
        """What to add to a refusal about those that are left out; None if this one is left out itself."""
        now = time.monotonic()
        # Without its address's port, a peer that proves no identity gets no new period by a new connection.
        who = who.rpartition(":")[0] if who.startswith("unproved ") else who
        if who not in self._periods and len(self._periods) >= _MOST_IDENTITIES:
            self._periods = {
                name: each for name, each in self._periods.items() if each.left_out or now - each.began < _WITHIN_S
            }
            who = who if len(self._periods) < _MOST_IDENTITIES else _OTHERS
        period = self._periods.setdefault(who, _Period(now))
        left_out = 0
        if now - period.began >= _WITHIN_S:
            left_out, self._periods[who] = period.left_out, _Period(now)
            period = self._periods[who]
        if period.refusals < _MOST_REFUSALS:
            period.refusals += 1
            if period.refusals == _MOST_REFUSALS:
                return f" (more refusals are left out for up to {_WITHIN_S:g} s)"
            return f" ({left_out} more refusals before this one were left out)" if left_out else ""
        period.left_out += 1
        if period.left_out == 1:
            log.warning("refusals of %s are left out of the audit log for up to %g s", who, _WITHIN_S)
        return None

    def acts(self, last: int) -> list[acts_pb2.Act]:
        """The ``last`` acts, or all if 0; oldest first."""
        return [
            acts_pb2.Act(
                number=number,
                at=timestamp(act.at_ns),
                who=act.who,
                unit=act.unit,
                what=act.what,
                detail=act.detail,
                status=status,
                reason=reason,
            )
            for number, act, status, reason in self._registry.acts(last)
        ]


def described(request: Message) -> str:
    """A request in one line, without its route table."""
    match request:
        case admin_pb2.PublishRequest():
            unsafe = ", phases skipped" if request.unsafe_skip_phases else ""
            some = f" for {', '.join(request.callers)}" if request.callers else ""
            return f"{', '.join(each.name for each in request.sources)}{some}; {_why(request)}{unsafe}"
        case admin_pb2.PublishChangeRequest():
            return f"{', '.join(each.name for each in request.use_cases)}; {_why(request)}"
        case admin_pb2.RollbackRequest():
            what = f"to revision {request.revision}" if request.revision else "of the staged revision"
            return f"{what}; {_why(request)}"
    return in_one_line(request)


def _why(request: admin_pb2.PublishRequest | admin_pb2.PublishChangeRequest | admin_pb2.RollbackRequest) -> str:
    return f"author {request.author or '?'}: {request.comment or 'no comment'}"


def timestamp(unix_ns: int) -> timestamp_pb2.Timestamp:
    """Unix nanoseconds as a message."""
    seconds, nanos = divmod(unix_ns, 1_000_000_000)
    return timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos)
