"""Did each stream bring every item once, in order and in time, all from one version, with the right scores?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from lab.checkers.checker import Checker
from lab.checkers.evidence import CLOCKS_NS, Evidence
from lab.checkers.late_timers import LateTimers
from lab.checkers.plain_chat import wanted_of, weights_of
from lab.checkers.plain_models import ASKED, TITLES, answer_of, items_digest
from lab.checkers.revision_timeline import RevisionTimeline, reference
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation
from lab.history import UNSENT, Record

NAME = "streams"

LEAST_OF_STREAMS = 1_400
"""Requests of which one in a hundred is a stream: that none of them is, is rarer than 5 sigma."""

_SHORTEST_NS = 50_000_000  # of a model's time for a stream: in less, items are too close to tell when each came
_STEP_NS = 10_000_000
_MS = 1_000_000


def check(evidence: Evidence) -> Verdict | None:
    """Judges the items of each request that was sent as a stream.

    A stream that ended without an error has every title once, best first by the scores that the version which answered
    gives this user, or every token once, in order. The digest over all items shows that each has the right score, and
    the version, cluster, replica, revision, seen context and receipt of the first item, which the other checkers judge.
    Of a stream that failed, the items that had come are the first ones of a version that the rules allow.

    A model spreads its time evenly over titles. The first item comes after the model has received the request, as far
    as all requests show how the clocks agree. The first title does not come late each time, and the titles do not come
    together each time, see :mod:`lab.checkers.late_timers`, as they do if a proxy keeps items back.

    Returns:
        None if no request was sent as a stream; unknown if none was answered.
    """
    streams = [record for record in evidence.records if record.streamed and record.status != UNSENT]
    if not streams:
        return None
    timeline, first_items = evidence.timeline, LateTimers(evidence, evidence.attempts)
    ahead_ns = _ahead_ns(evidence)
    counts: Counter[str] = Counter()
    wrong: list[Violation] = []
    for record in streams:
        counts["complete"] += record.status == "OK"
        counts["items"] += len(record.items.split())
        apis = dict.fromkeys(rules.api(record.use_case) for rules in timeline.during(record))
        api = next((each for each in apis if each in ASKED), "ranking.v1")
        wanted = wanted_of(evidence.plan_document, record.sequence)
        if record.status == "OK":
            weights = weights_of(evidence.plan_document, record.sequence, record.version)
            message = _objection(record, answer_of(api, record.model, weights, record.user_id, wanted))
        else:
            message = _objection_to_begun(record, api, wanted, timeline)
        if message := message or _first_item(record, api, evidence, first_items, ahead_ns):
            wrong.append(Violation(NAME, record.sequence, record.request_id, message))
    for record, message in dict([*first_items.at_once(), *first_items.late()]).items():
        wrong.append(Violation(NAME, record.sequence, record.request_id, message))
    summary = f"{counts['complete']} of {len(streams)} streams are complete, {counts['items']} items in all"
    if wrong:
        return Verdict(NAME, Outcome.INVALID, f"{len(wrong)} streams are wrong; {summary}", tuple(wrong))
    return Verdict(NAME, Outcome.VALID if counts["complete"] else Outcome.UNKNOWN, summary)


def _objection(record: Record, scored: Sequence[tuple[str, float]]) -> str:
    items, right = record.items.split(), [title for title, _ in scored]
    who = f"a stream of {reference(record)}"
    if again := _repeated(items):
        return f"{who} has {', '.join(again)} more than once"
    if missing := [title for title in sorted(right) if title not in items]:
        return f"{who} ended without an error, and without {', '.join(missing)}"
    if items != right:
        return f"{who} has the order {record.items}, and must have {' '.join(right)}"
    said = (record.model, record.version, record.cluster, record.replica, str(record.served_revision))
    seen = (record.seen_origin, record.seen_tenant, record.received)
    if record.items_digest != items_digest(scored, *said, *seen):
        return f"{who} has an item with another score, version, replica or receipt than it must"
    return ""


def _objection_to_begun(record: Record, api: str, wanted: int, timeline: RevisionTimeline) -> str:
    items = record.items.split()
    if again := _repeated(items):
        return f"a stream that failed has {', '.join(again)} more than once"
    if not items or any(items == right[: len(items)] for right in _allowed(record, api, wanted, timeline)):
        return ""
    return f"a stream that failed began with {record.items}, which no version that the rules allow ranks so"


def _allowed(record: Record, api: str, wanted: int, timeline: RevisionTimeline) -> Iterator[list[str]]:
    for rules in timeline.during(record):
        for each in (rules.expected(record), *rules.fallbacks(record)):
            yield [title for title, _ in answer_of(api, each.model, each.version, record.user_id, wanted)]


def _ahead_ns(evidence: Evidence) -> dict[str, int]:
    """Returns by how much each replica's clock can be ahead of the driver's: nothing arrives before it was sent.

    Several drivers have clocks that differ, and a record does not say which was its own.
    """
    if evidence.drivers:
        return {}
    sent_ns = {record.request_id: record.sent_ns for record in evidence.records}
    ahead_ns: dict[str, int] = {}
    for request, arrivals in evidence.attempts.items():
        if request in sent_ns:
            for each in arrivals:
                most_ns = ahead_ns.get(each.replica, CLOCKS_NS)
                ahead_ns[each.replica] = max(0, min(most_ns, each.arrived_ns - sent_ns[request]))
    return ahead_ns


def _first_item(record: Record, api: str, evidence: Evidence, first_items: LateTimers, ahead_of: dict[str, int]) -> str:
    """Returns when the first item came, in words, if that cannot be, else an empty text; notes the time."""
    received = [each for each in evidence.attempts.get(record.request_id, ()) if each.replica == record.replica]
    if record.status != "OK" or not received:
        return ""
    last, ahead_ns = received[-1], ahead_of.get(record.replica, CLOCKS_NS)
    after_ns = record.sent_ns + record.first_item_ns - last.arrived_ns
    if after_ns < -ahead_ns or record.first_item_ns > record.done_ns - record.sent_ns:
        return f"a stream's first item came {-after_ns / _MS:.1f} ms before its model had the request, or after its end"
    took_ns = last.ended_ns - last.arrived_ns
    if last.status == "OK" and took_ns >= _SHORTEST_NS and api == "ranking.v1":
        due_ns = -(-took_ns // len(TITLES) // _STEP_NS) * _STEP_NS
        reason = "its model had sent it after {} ms"
        first_items.saw("a stream's first item came", due_ns, after_ns, record, reason=reason)
        spread_ns = record.done_ns - record.sent_ns - record.first_item_ns
        first_items.streamed(took_ns - due_ns, spread_ns, record)
    return ""


def _repeated(items: list[str]) -> list[str]:
    return [title for title, times in Counter(items).items() if times > 1]


def _absent(evidence: Evidence) -> bool:
    """So many requests were sent that even one stream in a hundred must be among them."""
    return sum(each.status != UNSENT for each in evidence.records) >= LEAST_OF_STREAMS


CHECKER = Checker(
    name=NAME,
    question="Did each stream bring every item once, in order and in time, by one version, with the right scores?",
    blind="items that come late by less than the clocks of caller and model are apart",
    subject="a stream",
    claim=Claim.CORRECTNESS,
    absent=_absent,
    check=check,
)
