"""Did each request that a shadow samples bring a copy, at every payload size, and no other request any?"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.evidence import cluster_of
from lab.checkers.revision_timeline import Rules, by_chosen_model, request
from lab.checkers.verdict import Claim, Outcome, TooFew, Verdict, Violation

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence
    from lab.history import Record

NAME = "shadow"

COMPLETE = 1.0
COPIES_NS = 2_000_000_000
"""Time before and after a replica's silence in which a copy for it may be lost, as it is sent beside its request."""

_ENOUGH_DRAWS = 7.0
"""Requests that a shadow is expected to sample. Fewer than one run in a thousand has none of them."""

_KB = 1024
_SIZES_END = (4 * _KB, 64 * _KB, 1024 * _KB)
SIZES = ("up to 4 KB", "4 to 64 KB", "64 KB to 1 MB", "over 1 MB")
"""Size classes of payloads, in units of 1,024 bytes: proxies drop copies silently above some size."""


def check(evidence: Evidence, *, least: float = COMPLETE) -> Verdict | None:
    """Compares the copies that replicas received with the records, by payload size.

    A request is eligible if every revision in force while it was in flight samples it for the same shadow, and if the
    chosen version answered it; of a failed request it is not known how far it got. Nor is it eligible if a marked fault
    hit what its copy needed, or if the shadow's replicas cannot say what they received then. A request may have a copy
    if any of these revisions samples it.

    Copies that a unit says that it has dropped at its bound are no violations here; :mod:`lab.checkers.kinds.copies`
    asks whether the bound was reached.

    Args:
        evidence: of the run, with its copies.
        least: share of the eligible requests of each size of which a copy must have arrived, 0 to 1.

    Returns:
        None if no request was sent while a table had a shadow, and none was copied. Invalid if a copy arrived, or a
        request was marked, that no revision in force samples, if one arrived twice, or if too few copies of any size
        arrived. Unknown if the replicas were not asked, if copies are lost and a unit cannot say how many it dropped,
        or if no request was eligible; too few if so few were sent that none was sampled. The summary counts copies that
        arrived twice, and copies of requests that are not in the history.
    """
    copies = evidence.copies_by_request
    tally = tally_of(evidence)
    if not (tally.wanted or copies):
        return None
    violations, unsaid = tally.not_wanted, False
    if evidence.copies is None:
        summary = f"{tally.eligible.total()} requests were eligible, but the replicas were not asked for their copies"
    else:
        lost = [each for size, its in tally.lost.items() if tally.complete(size) < least for each in its]
        dropped = evidence.copies_dropped or {}
        unsaid = bool(lost) and None in dropped.values()
        by_design = sum(filter(None, dropped.values()))
        if len(lost) > by_design and not unsaid:
            violations += lost
        summary = _summary(tally, repeated=_repeated(copies.values()))
        if lost and by_design:
            summary += f"; units say that they have dropped {by_design} at their bound"
        if unsaid:
            summary += f"; {', '.join(name for name, count in dropped.items() if count is None)} cannot say"
    if violations:
        violations.sort(key=lambda one: one.sequence)
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} not as the rules say; {summary}", tuple(violations))
    shown = evidence.copies is not None and tally.eligible and not unsaid
    too_few = tally.too_few() if evidence.copies is not None and not unsaid else None
    return Verdict(NAME, Outcome.VALID if shown else Outcome.UNKNOWN, summary, too_few=too_few)


def tally_of(evidence: Evidence) -> Tally:
    """Returns the counts of a run's requests and copies."""
    tally = Tally(evidence)
    for record in evidence.records:
        if found := evidence.timeline.during(record):
            tally.add(record, found)
    return tally


class Tally:
    """Counts requests and copies, record by record.

    Attributes:
        copies: routing keys of the copies by request id; :meth:`add` removes those of its record.
        wanted: whether a rule or a record shows that there was a shadow.
        expected: number of answered requests that shadows sample on average.
        sampled: number that they did sample.
        eligible: number of eligible requests by size.
        lost: eligible requests without a copy, by size.
        not_wanted: copies and marked requests that no rule samples, and copies that arrived again.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self.copies = {request_id: [key for key, _ in its] for request_id, its in evidence.copies_by_request.items()}
        self.wanted = False
        self.expected, self.sampled = 0.0, 0
        self.eligible: Counter[str] = Counter()
        self.lost: dict[str, list[Violation]] = defaultdict(list)
        self.not_wanted: list[Violation] = []

    def add(self, record: Record, found: Sequence[Rules]) -> None:
        """Counts one request, given the rules in force while it was in flight."""
        self.wanted |= bool(record.shadow) or any(rules.shadow_percent(record.use_case) for rules in found)
        allowed = {rules.shadow(record) for rules in found}
        arrived = self.copies.pop(record.request_id, [])
        keys = set(arrived)
        self.not_wanted += _not_wanted(record, allowed, keys)
        if len(keys) < len(arrived):
            message = f"{request(record)}: more than one copy arrived"
            self.not_wanted.append(Violation(NAME, record.sequence, record.request_id, message))
        [key, *others] = allowed
        if by_chosen_model(record) and not record.override:
            self.expected += min(rules.shadow_percent(record.use_case) for rules in found) / 100
            self.sampled += any(allowed)
        if not key or others or not by_chosen_model(record) or self._may_be_lost(record, key, found):
            return
        size = size_of(record)
        self.eligible[size] += 1
        if key not in keys:
            message = f"no copy for {key} arrived of {request(record)}, payload {record.payload_bytes} bytes ({size})"
            self.lost[size].append(Violation(NAME, record.sequence, record.request_id, message))

    def _may_be_lost(self, record: Record, key: str, found: Sequence[Rules]) -> bool:
        """Whether a marked fault, or a replica that cannot say what it received, explains a copy that is not there."""
        homes = {each.home(*key.split(".")) for each in found}
        return any(
            cluster_of(each.replica) in homes and each.hides(record, for_ns=COPIES_NS)
            for each in self._evidence.arrival_gaps
        ) or any(
            each.closes and each.met(record) and (any(map(each.hits, homes)) or not any(map(each.hits, self._models)))
            for each in self._evidence.fault_windows
        )

    def too_few(self) -> TooFew | None:
        """Whether no request was sampled, as there were too few for that."""
        if self.sampled or not 0 < self.expected < _ENOUGH_DRAWS:
            return None
        return TooFew("too few requests for a shadow to sample one", _ENOUGH_DRAWS / self.expected)

    @cached_property
    def _models(self) -> set[str]:
        return {cluster for rules in self._evidence.timeline.rules for cluster in rules.clusters}

    def complete(self, size: str) -> float:
        """Returns the share of the eligible requests of which a copy arrived, 0 to 1."""
        return 1 - len(self.lost.get(size, ())) / self.eligible[size]


def size_of(record: Record) -> str:
    """Returns the class of :data:`SIZES` of a request's payload, without its envelope."""
    return SIZES[bisect_left(_SIZES_END, record.payload_bytes)]


def _not_wanted(record: Record, allowed: AbstractSet[str], keys: AbstractSet[str]) -> list[Violation]:
    messages = [f"a copy for {key} arrived" for key in sorted(keys - allowed)]
    if record.shadow and record.shadow not in allowed:
        messages.append(f"it was marked for {record.shadow}")
    if not messages:
        return []
    want = " or ".join(sorted(key or "none" for key in allowed))
    return [
        Violation(NAME, record.sequence, record.request_id, f"{request(record)}: {message}; the rules want {want}")
        for message in messages
    ]


def _repeated(copies: Iterable[Sequence[tuple[str, str]]]) -> int:
    """Returns of how many requests more than one copy arrived for the same key."""
    return sum(len({key for key, _ in its}) < len(its) for its in copies)


def _summary(tally: Tally, *, repeated: int) -> str:
    text = "no request was eligible, so nothing is shown"
    if tally.eligible:
        text = "copies of eligible requests: " + ", ".join(
            f"{size} {count - len(tally.lost.get(size, ()))}/{count} ({tally.complete(size):.2%})"
            for size in SIZES
            if (count := tally.eligible[size])
        )
    if repeated:
        text += f"; {repeated} arrived more than once"
    if tally.copies:
        text += f"; {len(tally.copies)} of requests that the history does not know"
    return text


CHECKER = Checker(
    name=NAME,
    question="Did each request that a shadow samples bring a copy, and no other request any?",
    blind="copies of failed requests, and what a shadow's model answers, which *shadow answers* reads",
    subject="a shadow",
    claim=Claim.CORRECTNESS,
    check=check,
)
