"""Were the replica, cluster and revision of every answer ones that were registered and in force?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.revision_timeline import by_model
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence, Registration, Registrations
    from lab.history import Record

NAME = "identity"

LEAVING_NS = 15_000_000_000
"""How long a replica may answer after its registration: it drains for 5 s, and a frozen one answers once it goes on."""


def check(evidence: Evidence) -> Verdict:
    """Looks up who answered among the registrations, and the revisions that an answer names.

    A replica must have been registered in the cluster that it names, before the answer came and until at most
    :data:`LEAVING_NS` before the request was sent. The revision of the decision must have been in force at some time
    until the answer, and the one by which the replica had loaded the version must not be newer than all that are known.

    Returns:
        Invalid with any violation. Unknown if no model answered, if the control plane was not asked, or if an answer
        came from a replica of which nothing is known, at a time when a control plane was restarted.
    """
    if evidence.registrations is None:
        return Verdict(NAME, Outcome.UNKNOWN, "the control plane was not asked which replicas were registered")
    by_replica: defaultdict[str, list[Registration]] = defaultdict(list)
    for each in evidence.registrations.replicas:
        by_replica[each.replica].append(each)
    from_ns = {each.number: each.revision.from_ns for each in evidence.timeline.rules}
    violations: list[Violation] = []
    counts: Counter[str] = Counter()
    seen: set[str] = set()
    for record in evidence.records:
        if message := _never_in_force(record, from_ns):
            violations.append(Violation(NAME, record.sequence, record.request_id, message))
        if not by_model(record):
            continue
        counts["answered"] += 1
        seen.add(record.replica)
        if message := _unregistered(record, by_replica.get(record.replica, ())):
            if _in_gap(record, evidence.registrations):
                counts["unjudged"] += 1
            else:
                violations.append(Violation(NAME, record.sequence, record.request_id, message))
    return _verdict(counts, len(seen), tuple(violations))


def _never_in_force(record: Record, from_ns: dict[int, int]) -> str:
    if record.revision and from_ns.get(record.revision, record.done_ns + 1) > record.done_ns:
        return f"decided by revision {record.revision}, which was not in force until then"
    if record.served_revision > max(from_ns, default=0):
        return f"answered by a version loaded for revision {record.served_revision}, which was never published"
    return ""


def _unregistered(record: Record, registrations: Sequence[Registration]) -> str:
    who = f"answered by {record.replica or 'a replica without a name'} of {record.cluster}"
    own = [each for each in registrations if each.cluster == record.cluster]
    if not own:
        others = ", ".join(sorted({each.cluster for each in registrations}))
        return f"{who}, which was never registered{f' there, but in {others}' if others else ''}"
    if any(
        each.from_ns <= record.done_ns and (each.until_ns is None or record.sent_ns <= each.until_ns + LEAVING_NS)
        for each in own
    ):
        return ""
    return f"{who}, which was not registered then"


def _in_gap(record: Record, registrations: Registrations) -> bool:
    gap = registrations.gap_ns
    return gap is not None and record.done_ns >= gap[0] and record.sent_ns <= gap[1]


def _verdict(counts: Counter[str], replicas: int, violations: tuple[Violation, ...]) -> Verdict:
    summary = f"{counts['answered']} answers by {replicas} replica{'' if replicas == 1 else 's'}"
    if violations:
        return Verdict(
            NAME,
            Outcome.INVALID,
            f"{len(violations)} by replicas or revisions that were not there; {summary}",
            violations,
        )
    if counts["unjudged"]:
        return Verdict(
            NAME, Outcome.UNKNOWN, f"{summary}; {counts['unjudged']} while the control plane did not know all replicas"
        )
    if not counts["answered"]:
        return Verdict(NAME, Outcome.UNKNOWN, "no model answered, so nothing is shown")
    return Verdict(NAME, Outcome.VALID, f"{summary}, all registered then, by revisions in force")


CHECKER = Checker(
    name=NAME,
    question="Were replica, cluster and revision of every answer registered and in force?",
    blind="a replica that answers as another one of its cluster",
    claim=Claim.CORRECTNESS,
    check=check,
)
