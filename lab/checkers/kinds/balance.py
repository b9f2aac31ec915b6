"""Did every replica that could serve a version get its share of the requests for it?"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from lab.checkers.checker import Checker
from lab.checkers.evidence import cluster_of
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence
    from lab.history import Record

NAME = "balance"

LEAST_EACH = 20
"""Attempts at a version for each replica that are enough to judge."""

LEAST_SHARE = 0.25
"""Of an even share. By chance alone one of two replicas gets less in one of ten million periods."""

LEAST_NS = 3_000_000_000
"""Time between the first and the last of these, as a replica may load a version later than its peers."""


class _Place(NamedTuple):
    """A version in a cluster."""

    routing_key: str
    cluster: str


def check(evidence: Evidence) -> Verdict | None:
    """Counts the attempts that replicas received, by version and cluster.

    Judged are the replicas that were registered during the whole run, that no marked fault hit, and that could say what
    they received, at each version of which their cluster received :data:`LEAST_EACH` attempts for each of them, within
    :data:`LEAST_NS` or more. Each must have received :data:`LEAST_SHARE` of an even share; where attempts failed or the
    table has a slow start, one attempt, as a proxy may have left a replica for its failures, or begun with it late.

    Returns:
        Invalid with a violation for each replica and version. None without such a version in a cluster of several
        replicas, or if nobody asked these what they received, which other checkers say.
    """
    seen: defaultdict[_Place, Counter[str]] = defaultdict(Counter)
    failed: set[_Place] = set()
    first_ns: dict[_Place, int] = {}
    last: dict[_Place, tuple[int, Record]] = {}
    for record in evidence.records:
        for each in evidence.attempts.get(record.request_id, ()):
            place = _Place(each.routing_key, cluster_of(each.replica))
            seen[place][each.replica] += 1
            if each.status != "OK":
                failed.add(place)
            first_ns[place] = min(each.arrived_ns, first_ns.get(place, each.arrived_ns))
            if place not in last or each.arrived_ns > last[place][0]:
                last[place] = each.arrived_ns, record
    steady, slow_start = _steady(evidence), _has_slow_start(evidence)
    judged = 0
    violations: list[Violation] = []
    for place, counts in sorted(seen.items()):
        at_ns, record = last[place]
        replicas = steady.get(place.cluster, ())
        enough = counts.total() >= LEAST_EACH * len(replicas) and at_ns - first_ns[place] >= LEAST_NS
        if len(replicas) <= 1 or not enough:
            continue
        judged += 1
        least = 1 if slow_start or place in failed else LEAST_SHARE * counts.total() / len(replicas)
        for replica in sorted(each for each in replicas if counts[each] < least):
            message = f"{replica} received {counts[replica]} of {counts.total()} attempts at {place.routing_key}"
            message += f", though {place.cluster} has {len(replicas)} replicas"
            violations.append(Violation(NAME, record.sequence, record.request_id, message))
    if violations:
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} shares are too small", tuple(violations))
    if not judged:
        return None
    versions = f"{judged} version{'' if judged == 1 else 's'}"
    return Verdict(NAME, Outcome.VALID, f"every replica received its share of the attempts at {versions}")


def _steady(evidence: Evidence) -> dict[str, set[str]]:
    """Replicas, by cluster, that could receive requests during the whole run, and tell of it."""
    begin_ns = min((record.sent_ns for record in evidence.records), default=0)
    end_ns = max((record.done_ns for record in evidence.records), default=0)
    out = {each.target for each in evidence.disturbances} | {each.replica for each in evidence.unheard}
    steady: defaultdict[str, set[str]] = defaultdict(set)
    for each in evidence.registrations.replicas if evidence.registrations else ():
        stayed = each.from_ns <= begin_ns and (each.until_ns is None or each.until_ns >= end_ns)
        if stayed and not out & {each.replica, each.cluster}:
            steady[each.cluster].add(each.replica)
    return steady


def _has_slow_start(evidence: Evidence) -> bool:
    tables = (each.document for each in evidence.revisions)
    return any("slow_start" in use_case for table in tables for use_case in table["use_cases"].values())


CHECKER = Checker(
    name=NAME,
    question="Did every replica that could serve a version get its share of the requests for it?",
    subject="20 attempts for each of several replicas",
    claim=Claim.AVAILABILITY,
    check=check,
)
