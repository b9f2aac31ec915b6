"""Did each request pass through the units of its topology, and no others?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.revision_timeline import request
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation
from lab.history.arrivals import NOT_RECORDED

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence

NAME = "path"


def check(evidence: Evidence) -> Verdict | None:
    """Compares the units that each attempt at a model passed with those of the run's topology.

    Each unit adds its role to the header ``via``, and the model says what it received: so a driver that measures
    another topology than it says, or goes straight to the model, is seen. Copies are not judged, as some topologies
    have them sent by the caller.

    Returns:
        None if the topology has a unit that does not add its role, or if the run is of an earlier release, which has no
        such evidence. Invalid with any violation. Unknown if the replicas were not asked, or received nothing.
    """
    if not evidence.abilities.marks_path:
        return None
    if evidence.arrivals is None:
        return Verdict(NAME, Outcome.UNKNOWN, "the replicas were not asked what they received")
    attempts = [(record, each) for record in evidence.records for each in evidence.attempts.get(record.request_id, ())]
    if attempts and {each.via for _, each in attempts} == {NOT_RECORDED}:
        return None
    wanted = tuple(evidence.abilities.between)
    violations: list[Violation] = []
    for record, each in attempts:
        if (passed := roles_in(each.via)) != wanted:
            message = f"{request(record)} came to {each.replica} {_through(passed)}, not {_through(wanted)}"
            violations.append(Violation(NAME, record.sequence, record.request_id, message))
    summary = f"{len(attempts) - len(violations)} of {len(attempts)} attempts came to models {_through(wanted)}"
    if violations:
        return Verdict(NAME, Outcome.INVALID, summary, tuple(violations))
    return Verdict(NAME, Outcome.VALID if attempts else Outcome.UNKNOWN, summary)


def roles_in(via: str) -> tuple[str, ...]:
    """Returns the roles in a header ``via``, by RFC 9110, section 7.6.3: ``2 sidecar`` is of a sidecar."""
    return tuple(each.split()[:2][-1] for each in via.split(",") if each.strip())  # a comment may follow


def _through(roles: Sequence[str]) -> str:
    return f"through {' and '.join(roles)}" if roles else "directly"


def _absent(evidence: Evidence) -> bool:
    return bool(evidence.arrivals)


CHECKER = Checker(
    name=NAME,
    question="Did each request pass through the units of its topology, and no others?",
    subject="a topology whose units mark the path",
    claim=Claim.CORRECTNESS,
    absent=_absent,
    check=check,
)
