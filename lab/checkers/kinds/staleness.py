"""Once a revision has converged and settled, does no answer follow the previous one?"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.revision_timeline import RevisionTimeline, Rules, by_chosen_model, reference
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation
from lab.history import UNSENT, Record

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence

NAME = "staleness"

_NS_PER_MS = 1e6


def check(evidence: Evidence) -> Verdict | None:
    """Checks the two revisions in each model's answer: the decision's and the replica's.

    A decision is stale if its revision had ended for the caller before the request was sent, or was staged for others,
    and if it differs from the decision of each revision in force: in version, fallbacks, shadow, timeout or model
    config. The revision's number proves nothing, as a resolver keeps its revision when the next one changes no rule.
    The cluster does not count either, as moving a version reaches no resolver. For a replica only the cluster counts:
    its answer is stale if its revision had ended, and no revision in force has the version in that cluster.

    No caller is excepted, be it late, stopped or cut off from its resolver.

    The summary has the time of the slowest publish as callers saw it, see :func:`last_old_answers_ns`.

    Returns:
        None if no revision ended before the last request was sent; unknown if no answer carries a known revision.
    """
    timeline = evidence.timeline
    last_sent_ns = max((record.sent_ns for record in evidence.records if record.status != UNSENT), default=0)
    if not timeline.has_stages and not any(rules.ended_before(last_sent_ns) for rules in timeline.rules):
        return None
    numbered = cache(timeline.numbered)
    violations: list[Violation] = []
    judged = 0
    for record in evidence.records:
        found = timeline.during(record)
        if record.status != "OK" or record.source == "default" or not found:
            continue
        by_number = numbered(record.caller)
        decided_by, served_by = by_number.get(record.revision), by_number.get(record.served_revision)
        judged += decided_by is not None or served_by is not None
        messages = (_stale_decision(record, found, decided_by), _stale_replica(record, found, served_by))
        violations += [Violation(NAME, record.sequence, record.request_id, message) for message in messages if message]
    summary = "; ".join([f"{judged} answers carry a revision", *_slowest(timeline, evidence.records)])
    if violations:
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} stale; {summary}", tuple(violations))
    return Verdict(NAME, Outcome.VALID if judged else Outcome.UNKNOWN, summary)


def _stale_decision(record: Record, found: Sequence[Rules], decided_by: Rules | None) -> str:
    if decided_by is None:
        return ""
    revision = decided_by.revision
    if not revision.is_for(record.caller):
        when = f", which is for {', '.join(sorted(revision.callers))}"
    elif decided_by.ended_before(record.sent_ns):
        when = f" {_ms(record.sent_ns - (revision.until_ns or 0))} after that had ended"
    else:
        return ""
    old = decided_by.decision(record)
    if any(rules.decision(record) == old for rules in found):
        return ""
    newest = found[-1]
    return (
        f"decided by revision {record.revision}{when}: "
        f"{_difference(old._asdict(), newest.decision(record)._asdict(), newest.number)}"
    )


def _difference(old: Mapping[str, object], new: Mapping[str, object], number: int) -> str:
    return ", ".join(
        f"{name} {value!r}, but {new[name]!r} by revision {number}" for name, value in old.items() if value != new[name]
    )


def _stale_replica(record: Record, found: Sequence[Rules], served_by: Rules | None) -> str:
    if served_by is None or not served_by.ended_before(record.sent_ns):
        return ""
    if any(rules.runs(record, rules.shard(record)) for rules in found):
        return ""
    return (
        f"{record.replica} served {reference(record)} under revision {record.served_revision}, which had ended; "
        f"by revision {found[-1].number} that version is not in {record.cluster}"
    )


def last_old_answers_ns(timeline: RevisionTimeline, records: Iterable[Record]) -> dict[int, int]:
    """Returns when the last answer by the rules before each revision arrived, Unix nanoseconds.

    Only requests count for which the two tables expect different model versions or clusters, from the start of the
    revision's publish to that of the next. The difference to the revision's ``from_ns`` is the time of the publish as
    callers saw it, including the latency of that answer. It is 0 if all answers since then followed the new rules. A
    revision is left out if no answer tells the two apart, if it did not converge, or has no predecessor.
    """

    @cache
    def changes_of(caller: str) -> tuple[list[int], list[tuple[Rules, Rules]]]:
        converged = [rules for rules in timeline.of(caller).rules if rules.revision.converged_ns is not None]
        return [rules.revision.from_ns for rules in converged], list(pairwise(converged))

    last: dict[int, int] = {}
    for record in records:
        begins, changes = changes_of(record.caller)
        place = bisect_right(begins, record.done_ns) - 2
        if place < 0 or not by_chosen_model(record):
            continue
        old, new = changes[place]
        wanted, wants = old.expected(record), new.expected(record)
        if wanted == wants:
            continue
        if old.answer(record) == wanted:
            last[new.number] = max(record.done_ns, last.get(new.number, 0))
        elif new.answer(record) == wants:
            last.setdefault(new.number, new.revision.from_ns)
    return last


def _slowest(timeline: RevisionTimeline, records: Iterable[Record]) -> list[str]:
    """Describes the publish after which the old rules were followed for longest; empty if there was none."""
    last = last_old_answers_ns(timeline, records)
    took = [(last[rules.number] - rules.revision.from_ns, rules) for rules in timeline.rules if rules.number in last]
    if not took:
        return []
    took_ns, slowest = max(took, key=lambda one: one[0])
    if not took_ns:
        return [f"none of {len(took)} publishes was followed by an answer by the old rules"]
    after_ns = last[slowest.number] - (slowest.revision.converged_ns or 0)
    side = "after" if after_ns > 0 else "before"
    began = f"last answer by the old rules {_ms(took_ns)} after revision {slowest.number} began to go out"
    return [f"{began}, {_ms(abs(after_ns))} {side} it had converged (the slowest of {len(took)})"]


def _ms(time_ns: int) -> str:
    return f"{time_ns / _NS_PER_MS:.1f} ms"


CHECKER = Checker(
    name=NAME,
    question="Once a revision has converged, does no answer follow the previous one?",
    blind="an answer by an old revision whose decision is the same, and any in the first 100 ms after it was replaced",
    subject="a revision that was replaced",
    claim=Claim.CORRECTNESS,
    check=check,
)
