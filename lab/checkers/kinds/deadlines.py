"""Did each request come to models with a deadline, no later than its timeout allows?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.revision_timeline import request
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation
from lab.history.arrivals import NO_DEADLINE, NO_TIME_RECORDED

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence
    from lab.checkers.revision_timeline import Rules
    from lab.history import Record
    from lab.history.arrivals import Arrival

NAME = "deadlines"

ROUNDED = 1.02
"""gRPC rounds deadlines up on the wire, by one percent at most."""

SLACK_MS = 20
"""More than it may take from a read of the deadline to a read of the clock."""

_MS = 1_000_000


def check(evidence: Evidence) -> Verdict | None:
    """Compares the time that was left when an attempt reached a model with what its caller's policy allows.

    Nothing may come without a deadline. No attempt may have more time left than the use case's timeout, by a revision
    in force; a topology that follows no rules has the timeout of the plan. A later attempt may not have the time again
    that earlier ones took until they failed, except beside a hedge. Copies are not judged.

    Returns:
        None if the topology does not pass deadlines on, or if the run is of an earlier release, which has no such
        evidence. Invalid with any violation. Unknown if the replicas were not asked, or received nothing.
    """
    if not evidence.abilities.deadlines:
        return None
    if evidence.arrivals is None:
        return Verdict(NAME, Outcome.UNKNOWN, "the replicas were not asked what they received")
    recorded = any(each.remaining_ms != NO_TIME_RECORDED for each in evidence.arrivals)
    if evidence.arrivals and not recorded:
        return None
    violations: list[Violation] = []
    judged = 0
    for record in evidence.records:
        arrivals = sorted(evidence.attempts.get(record.request_id, ()), key=lambda each: each.arrived_ns)
        rules = evidence.timeline.during(record) if arrivals and evidence.abilities.follows_rules else []
        judged += len(arrivals)
        violations += (
            Violation(NAME, record.sequence, record.request_id, message)
            for message in _objections(record, arrivals, rules, evidence)
        )
    summary = f"{judged} attempts came to models, with the time that was left"
    if violations:
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} have too late a deadline, or none", tuple(violations))
    return Verdict(NAME, Outcome.VALID if judged else Outcome.UNKNOWN, summary)


def _objections(
    record: Record, arrivals: Sequence[Arrival], rules: Sequence[Rules], evidence: Evidence
) -> Iterator[str]:
    timeout_ms = max((each.timeout_ns(record.use_case) for each in rules), default=0) / _MS
    timeout_ms = timeout_ms or (evidence.timeout_s or 0) * 1_000
    hedged = any(each.policy(record).hedge_after_s is not None for each in rules)
    for place, each in enumerate(arrivals):
        where = f"{request(record)} came to {each.replica}"
        if each.remaining_ms == NO_DEADLINE:
            yield f"{where} without a deadline"
            continue
        # One that was answered has no further attempt after it: this one had been sent before, to a late replica.
        failed = (before for before in arrivals[:place] if not hedged and before.status != "OK")
        over = (before.ended_ns for before in failed if 0 < before.ended_ns < each.arrived_ns)
        spent_ms = (max(over, default=arrivals[0].arrived_ns) - arrivals[0].arrived_ns) / _MS
        if timeout_ms and each.remaining_ms > (timeout_ms - spent_ms) * ROUNDED + SLACK_MS:
            used = f", of which earlier attempts took {spent_ms:.0f} ms" if spent_ms else ""
            yield f"{where} with {each.remaining_ms} ms left; its timeout is {timeout_ms:.0f} ms{used}"


CHECKER = Checker(
    name=NAME,
    question="Did each request come to models with a deadline, no later than its timeout allows?",
    blind=f"up to {SLACK_MS} ms that a unit takes away or adds, and copies",
    subject="a topology that passes deadlines on",
    claim=Claim.CORRECTNESS,
    check=check,
)
