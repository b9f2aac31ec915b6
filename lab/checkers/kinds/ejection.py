"""Were replicas that failed ejected as the table says, and did further attempts go to other replicas?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lab.checkers.checker import Checker
from lab.checkers.evidence import CLOCKS_NS, Evidence, cluster_of
from lab.checkers.revision_timeline import request
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation
from lab.checkers.version_path import TEAR

if TYPE_CHECKING:
    from lab.checkers.plain_policy import Ejection
    from lab.history import Record
    from lab.history.arrivals import Arrival

NAME = "ejection"

LATE_NS = 200_000_000
"""Time after which a replica is surely ejected, once callers know how the requests ended that it failed."""

LEAST_AGAIN = 10
"""Further attempts of a run below which nothing is said about where they went."""

MOST_AGAIN = 0.1
"""Share of them that may go to a replica that the request has tried: Envoy picks at random, and again a few times."""

_SURE = 2  # times the failures in a row: models end attempts in another order than a proxy sees
_SURE_OF_SEVERAL = 3  # likewise, where several limiters count for themselves
_FAILURES = frozenset({"UNAVAILABLE", "INTERNAL", "UNKNOWN", "DATA_LOSS", "UNIMPLEMENTED"})
_SAY_NOTHING = frozenset({"DEADLINE_EXCEEDED", "CANCELLED", ""})


class _Replica(NamedTuple):
    """A replica of a version under one revision, and when it is ejected."""

    revision: int
    routing_key: str
    name: str
    ejection: Ejection


class _Failure(NamedTuple):
    """When a replica failed an attempt, and when its caller knew how the request had ended, Unix nanoseconds."""

    ended_ns: int
    known_ns: int


def check(evidence: Evidence) -> Verdict | None:
    """Looks at where attempts went after failures.

    - **Ejection**: a replica that failed twice as often in a row as ``outliers`` says (with several limiters, three
      times as often for each) gets no attempt from :data:`LATE_NS` after the end of these requests on, until its time
      has passed since it could first be ejected. Judged where one replica may be ejected and no other one of the
      version failed meanwhile.
    - **Further attempts**: a retry or a hedge goes to a replica that the request has not tried, if there is one that no
      fault hit; a tenth may do otherwise. Judged where a unit between caller and model makes them, and neither health
      checks nor ejection may have taken the other replica out.

    Returns:
        None if the run contains neither, or the replicas were not asked, which *policy* says.
    """
    if evidence.arrivals is None:
        return None
    ejected, violations = _ejections(evidence)
    again, elsewhere = _further(evidence)
    further = len(again) + elsewhere
    if further >= LEAST_AGAIN and len(again) > MOST_AGAIN * further:
        violations += again
    summary = f"{ejected} ejections; {further} further attempts, {len(again)} at a replica that had been tried"
    if violations:
        violations.sort(key=lambda one: one.sequence)
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} objections; {summary}", tuple(violations))
    return Verdict(NAME, Outcome.VALID, summary) if ejected or again or elsewhere else None


def _ejections(evidence: Evidence) -> tuple[int, list[Violation]]:
    """Returns how often a replica was to be ejected, and the attempts that it got nevertheless."""
    can, due = evidence.abilities, 0
    violations: list[Violation] = []
    if not (can.ejects and any("outliers" in rules.settings for rules in evidence.timeline.rules)):
        return due, violations
    if any(each.role in can.between for each in evidence.fault_windows):
        return due, violations
    by_replica, size = _attempts_under_outliers(evidence)
    failed = {each: [one.ended_ns for one, _ in found if one.status in _FAILURES] for each, found in by_replica.items()}
    for replica, found in by_replica.items():
        ejection = replica.ejection
        if size[replica] * ejection.at_most < 100:  # noqa: PLR2004 (percent)
            continue
        sure = ejection.errors * (_SURE if can.limiters == 1 else _SURE_OF_SEVERAL * can.limiters)
        for failures in _streaks(found, ejection.errors):
            began_ns = failures[ejection.errors - 1].ended_ns
            for_ns = round(ejection.for_s * 1e9)
            peers = [failed[each] for each in by_replica if _is_peer(each, replica)]
            if any(abs(at_ns - began_ns) <= for_ns for its in peers for at_ns in its):
                continue
            due += 1
            if len(failures) < sure:
                continue
            from_ns = max(each.known_ns for each in failures[:sure]) + LATE_NS
            until_ns = began_ns + for_ns - CLOCKS_NS
            for each, record in found:
                if record is not None and from_ns <= each.arrived_ns <= until_ns:
                    after = f"{(each.arrived_ns - began_ns) / 1e9:.1f} s after {ejection.errors} failures in a row"
                    what = f"{replica.name} got an attempt {after}; it is to stay ejected for {ejection.for_s:g} s"
                    violations.append(_violation(record, what))
    return due, violations


def _attempts_under_outliers(
    evidence: Evidence,
) -> tuple[dict[_Replica, list[tuple[Arrival, Record | None]]], dict[_Replica, int]]:
    """Returns attempts, by their end, and the number of replicas of the same cluster, by replica.

    Those of other requests, which have no record here, are left out if they failed: another proxy may have sent them.
    """
    found: defaultdict[_Replica, list[tuple[Arrival, Record | None]]] = defaultdict(list)
    size: dict[_Replica, int] = {}
    for record in evidence.records:
        rules = evidence.timeline.alone(record)
        ejection = None if rules is None else rules.policy(record).ejection
        if rules is None or ejection is None:
            continue
        for each in evidence.attempts.get(record.request_id, ()):
            replica = _Replica(rules.number, each.routing_key, each.replica, ejection)
            found[replica].append((each, record))
            size[replica] = rules.replicas(cluster_of(each.replica))
    own = {record.request_id for record in evidence.records}
    others: defaultdict[tuple[str, str], list[tuple[Arrival, Record | None]]] = defaultdict(list)
    for each in evidence.arrivals or ():
        if not (each.is_copy or each.request_id in own or each.status in _FAILURES):
            others[each.routing_key, each.replica].append((each, None))
    for replica, its in found.items():
        its.extend(others[replica.routing_key, replica.name])
        its.sort(key=lambda one: one[0].ended_ns)
    return found, size


def _is_peer(other: _Replica, replica: _Replica) -> bool:
    same = (other.revision, other.routing_key, cluster_of(other.name))
    return other != replica and same == (replica.revision, replica.routing_key, cluster_of(replica.name))


def _streaks(found: Sequence[tuple[Arrival, Record | None]], errors: int) -> Iterator[list[_Failure]]:
    """Yields the failures of a replica wherever at least ``errors`` come in a row."""
    in_a_row: list[_Failure] = []
    for each, record in found:
        if record is not None and each.status in _FAILURES:
            in_a_row.append(_Failure(each.ended_ns, record.done_ns))
        elif each.status not in _SAY_NOTHING:
            if len(in_a_row) >= errors:
                yield in_a_row
            in_a_row = []
    if len(in_a_row) >= errors:
        yield in_a_row


def _further(evidence: Evidence) -> tuple[list[Violation], int]:
    """Returns the further attempts at a replica that the request had tried, and the number of those at another one."""
    again: list[Violation] = []
    elsewhere = 0
    for record in evidence.records if evidence.abilities.between else ():
        its = evidence.attempts.get(record.request_id, ())
        rules = evidence.timeline.alone(record) if len(its) > 1 else None
        if rules is None or rules.policy(record).may_take_out:
            continue
        cut_off = {each.target for each in evidence.fault_windows if each.closes and each.met(record)}
        in_order = sorted(its, key=lambda one: one.arrived_ns)
        for place, each in enumerate(in_order[1:], 1):
            before, cluster = in_order[:place], cluster_of(each.replica)
            tried = {one.replica for one in before if one.routing_key == each.routing_key}
            untried = evidence.settled(cluster, each.arrived_ns, record.done_ns) - tried - cut_off
            elsewhere_before = {cluster_of(one) for one in tried} != {cluster}
            if before[-1].status == TEAR or elsewhere_before or cluster in cut_off or not untried:
                continue
            if each.replica in tried:
                what = f"attempt {place + 1} went to {each.replica} again; {min(untried)} had not been tried"
                again.append(_violation(record, what))
            else:
                elsewhere += 1
    return again, elsewhere


def _violation(record: Record, message: str) -> Violation:
    return Violation(NAME, record.sequence, record.request_id, f"{request(record)}: {message}")


CHECKER = Checker(
    name=NAME,
    question="Were replicas that failed ejected as the table says, and did further attempts go to other replicas?",
    blind="ejections while several replicas fail, or where health checks may have taken them out",
    subject="a replica that is to be ejected, or a further attempt",
    claim=Claim.AVAILABILITY,
    check=check,
)
