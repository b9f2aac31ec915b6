"""Was every request answered by a model version that the rules in force allowed, or refused as they say?"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING

from lab.checkers.plain import Expected, decide, fields_read
from lab.checkers.verdict import Outcome, Verdict, Violation
from lab.history import UNSENT
from models.scoring import scores

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lab.checkers.evidence import Evidence, RevisionInForce
    from lab.history import Record

NAME = "routing"

REFUSALS = frozenset({"NOT_FOUND", "PERMISSION_DENIED", "FAILED_PRECONDITION", "INVALID_ARGUMENT"})

_CONTEXT_FIELDS = ("user_id", "device", "country", "segment", "surface", "caller", "tenant", "traffic_origin")
_FOREVER = 1 << 63


def check(evidence: Evidence) -> Verdict:
    """Judges every record on its own.

    An answer of a model is right if a revision that was in force at any time between sending and answer wants just
    that model version and cluster for the request, and if the score proves that this version computed it. A refusal is
    right if such a revision wants it. Other errors say nothing about routing: they are counted as failed. A caller's
    own default answer is counted as such.

    Returns:
        Invalid with any violation; unknown if no model answered, or if a record lies outside of every known revision.
    """
    in_force = _InForce(evidence.revisions)
    violations: list[Violation] = []
    counts: Counter[str] = Counter()
    for record in evidence.records:
        kind = _kind(record)
        counts[kind] += 1
        if kind not in {"answered", "refused"}:
            continue
        allowed = in_force.expectations(record)
        if not allowed:
            counts["unjudged"] += 1
        elif message := _objection(record, kind, allowed):
            violations.append(Violation(NAME, record.sequence, record.request_id, message))
    return _verdict(counts, tuple(violations))


def _kind(record: Record) -> str:
    if record.status == "OK":
        return "defaulted" if record.source == "default" else "answered"
    if record.status == UNSENT:
        return "unsent"
    return "refused" if record.status in REFUSALS else "failed"


def _verdict(counts: Counter[str], violations: tuple[Violation, ...]) -> Verdict:
    summary = f"{counts['answered']} answered by models, {counts['refused']} refused, {counts['failed']} failed"
    for kind, words in (
        ("defaulted", "answered by the caller's own default"),
        ("unsent", "not sent"),
        ("unjudged", "at a time for which no revision is known"),
    ):
        if counts[kind]:
            summary += f", {counts[kind]} {words}"
    if violations:
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} not as the rules say; {summary}", violations)
    if not counts["answered"]:
        return Verdict(NAME, Outcome.UNKNOWN, f"no model answered, so nothing is shown; {summary}")
    if counts["unjudged"]:
        return Verdict(NAME, Outcome.UNKNOWN, summary)
    return Verdict(NAME, Outcome.VALID, summary)


def _objection(record: Record, kind: str, allowed: dict[Expected, int]) -> str:
    """What is wrong with a record, empty if nothing is."""
    if kind == "refused":
        if record.status in {want.status for want in allowed}:
            return ""
        # The reason in the message may be another one than routing, but statuses mean the same in every topology.
        return f"refused with {record.status} ({record.message[:80]!r}); {_in_words(allowed)}"
    answer = Expected("OK", record.model, record.version, record.cluster)
    who = f"{record.model}@{record.version} on {record.cluster}"
    if record.source != "model":
        return f"OK from source {record.source!r}, which is neither a model nor the caller's own default"
    if answer not in allowed:
        return f"answered by {who}; {_in_words(allowed)}"
    proof = scores(record.model, record.version, record.user_id, [record.item_id])[0]
    if proof != record.score:
        return (
            f"{who} did not compute this answer: item {record.item_id!r} of user {record.user_id!r} scores "
            f"{proof!r}, not {record.score!r}"
        )
    return ""


def _in_words(allowed: dict[Expected, int]) -> str:
    wants = (
        f"revision {revision} wants "
        + (f"{want.model}@{want.version} on {want.cluster}" if want.status == "OK" else want.status)
        for want, revision in allowed.items()
    )
    return ", ".join(wants)


class _InForce:
    """The revisions in order of time, and what each wants, remembered by the fields that its rules read."""

    def __init__(self, revisions: Iterable[RevisionInForce]) -> None:
        self._revisions: Sequence[RevisionInForce] = sorted(revisions, key=lambda one: (one.from_ns, one.revision))
        self._from = [one.from_ns for one in self._revisions]
        # Latest end of all up to here: what lies before the first that reaches a moment cannot be in force then.
        self._until = list(accumulate((_end(one) for one in self._revisions), max))
        self._fields: dict[tuple[int, str], list[str]] = {}
        self._wants: dict[tuple[object, ...], Expected] = {}

    def expectations(self, record: Record) -> dict[Expected, int]:
        """What the revisions in force while the request was under way want, each with the first revision to do so."""
        first = bisect_left(self._until, record.sent_ns)
        end = bisect_right(self._from, record.done_ns)
        allowed: dict[Expected, int] = {}
        for place in range(first, end):
            one = self._revisions[place]
            if _end(one) >= record.sent_ns:
                allowed.setdefault(self._expected(place, one, record), one.revision)
        return allowed

    def _expected(self, place: int, one: RevisionInForce, record: Record) -> Expected:
        fields = self._fields.get((place, record.use_case))
        if fields is None:
            fields = self._fields[place, record.use_case] = fields_read(one.document, record.use_case)
        key = (place, record.use_case, *(getattr(record, field, "") for field in fields))
        want = self._wants.get(key)
        if want is None:
            context = {field: getattr(record, field) for field in _CONTEXT_FIELDS}
            want = self._wants[key] = decide(one.document, record.use_case, context)
        return want


def _end(one: RevisionInForce) -> int:
    return _FOREVER if one.until_ns is None else one.until_ns
