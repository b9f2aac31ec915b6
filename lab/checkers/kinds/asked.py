"""Did the driver ask what was planned, and when it was planned?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.plain_schedule import ANY, ONE_OF_THE_USERS, PlannedRequest, PlannedRun
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation
from lab.history import UNSENT, Record

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence

NAME = "asked"

TOOK_TURNS = 0.9
"""Share of the users that must have asked; one whose answer does not come misses its further turns alone."""

_ASKED = PlannedRequest._fields[1:]
_PAYLOAD = _ASKED.index("payload_bytes")
_OPEN = (ANY, ONE_OF_THE_USERS)
_values = attrgetter(*_ASKED)


def check(evidence: Evidence) -> Verdict | None:
    """Compares each record with the request of the plan that has its sequence number.

    The plan's requests are computed by :mod:`lab.checkers.plain_schedule`, which shares nothing with the driver. The
    intended times must all lie on the schedule: their differences to the planned offsets are one number, the start of
    the run. Use case, user, context and payload must be the planned ones, but for what the engine decides. Its users
    must have taken turns, if it has some: :data:`TOOK_TURNS` of them, or of the requests if those are fewer. A
    payload of an API that the checkers do not know is not compared.

    Returns:
        None if nothing was planned: people, or users who wait for answers, decided when to ask. Invalid if any record
        differs; unknown if nothing was sent.
    """
    if evidence.plan is None:
        return None
    requests = evidence.plan.requests
    sent = [each for each in evidence.records if each.status != UNSENT and 0 <= each.sequence < len(requests)]
    starts = Counter(each.intended_ns - requests[each.sequence].offset_ns for each in sent)
    start_ns = starts.most_common(1)[0][0] if starts else 0
    violations = []
    for record in sent:
        request = requests[record.sequence]
        if message := _time_apart(record, request, start_ns) or _content_apart(record, request):
            violations.append(Violation(NAME, record.sequence, record.request_id, message))
    violations += _without_turns(evidence.plan, sent)
    compared = "when they were due, and what they asked" if _planned_content(evidence) else "when they were due"
    summary = f"{len(sent)} requests compared with the plan: {compared}"
    if violations:
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} differ; {summary}", tuple(violations))
    return Verdict(NAME, Outcome.VALID if sent else Outcome.UNKNOWN, summary)


def _planned_content(evidence: Evidence) -> bool:
    return evidence.plan is not None and bool(evidence.plan.requests) and bool(evidence.plan.requests[0].use_case)


def _time_apart(record: Record, request: PlannedRequest, start_ns: int) -> str:
    off_ns = record.intended_ns - request.offset_ns - start_ns
    return f"its intended time is {off_ns / 1e6:+.3f} ms off the planned one" if off_ns else ""


def _content_apart(record: Record, request: PlannedRequest) -> str:
    found, planned = _values(record), request[1:]
    if found == planned or not request.use_case:
        return ""
    return ", ".join(
        f"{name} {its!r}, planned {wanted!r}"
        for place, (name, its, wanted) in enumerate(zip(_ASKED, found, planned, strict=True))
        if its != wanted and wanted not in _OPEN and (wanted or place != _PAYLOAD)
    )


def _without_turns(plan: PlannedRun, sent: Sequence[Record]) -> list[Violation]:
    """Says it of the last request, if too few of the users asked, where they take turns."""
    if not sent or plan.requests[0].user_id != ONE_OF_THE_USERS:
        return []
    users = len({each.user_id for each in sent} & {f"u{number}" for number in range(plan.users)})
    if users >= TOOK_TURNS * min(len(sent), plan.users):
        return []
    message = f"{users} of the run's {plan.users} users made its {len(sent)} requests, though they take turns"
    return [Violation(NAME, sent[-1].sequence, sent[-1].request_id, message)]


def _absent(evidence: Evidence) -> bool:
    return evidence.plan is None


CHECKER = Checker(
    name=NAME,
    question="Did the driver ask what was planned, when it was planned?",
    blind="what people, or users who wait for answers, decide to ask",
    subject="a planned schedule",
    claim=Claim.CORRECTNESS,
    absent=_absent,
    check=check,
)
