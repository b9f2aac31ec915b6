"""Did each request pass through the units of its topology, and no others?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from lab.checkers.checker import Checker
from lab.checkers.revision_timeline import request
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation
from lab.history.arrivals import NOT_RECORDED

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence

NAME = "path"

PARSED = "parsed"
"""What a unit says that has parsed a request's body."""


class Hop(NamedTuple):
    """A unit that a request has passed, by its own word.

    Attributes:
        role: of the unit.
        unit: its name; empty in runs of earlier releases.
        form: how it took the request's body; empty if it does not say.
    """

    role: str
    unit: str = ""
    form: str = ""


def check(evidence: Evidence) -> Verdict | None:
    """Compares the units that each attempt at a model passed with those of the run's topology.

    Each unit adds role, name and, if it may parse the body, what it did with that to the header ``via``, and the model
    says what it received. So a driver that measures another topology than it says, goes straight to the model, or
    takes another caller's sidecar, is seen. Copies are not judged, as some topologies have them sent by the caller.

    Returns:
        None if the topology has a unit that does not add itself, or if the run is of an earlier release, which has no
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
        hops = hops_in(each.via)
        if (passed := tuple(hop.role for hop in hops)) != wanted:
            message = f"{_through(passed)}, not {_through(wanted)}"
        elif not (message := _other_unit(hops, evidence) or _other_form(hops, evidence)):
            continue
        text = f"{request(record)} came to {each.replica} {message}"
        violations.append(Violation(NAME, record.sequence, record.request_id, text))
    summary = f"{len(attempts) - len(violations)} of {len(attempts)} attempts came to models {_through(wanted)}"
    if violations:
        return Verdict(NAME, Outcome.INVALID, summary, tuple(violations))
    return Verdict(NAME, Outcome.VALID if attempts else Outcome.UNKNOWN, summary)


@lru_cache(maxsize=1_000)
def hops_in(via: str) -> tuple[Hop, ...]:
    """Returns what a header ``via`` says, by RFC 9110, section 7.6.3: ``2 gateway (gateway-1; parsed)``."""
    hops = []
    for each in filter(None, map(str.strip, via.split(","))):
        received, _, comment = each.partition("(")
        unit, _, form = comment.rstrip(") ").partition(";")
        hops.append(Hop(received.split()[:2][-1] if received.split() else "", unit.strip(), form.strip()))
    return tuple(hops)


def _other_unit(hops: Sequence[Hop], evidence: Evidence) -> str:
    """Returns which unit was passed that is not of the run's path; empty if none was, or if that is not known."""
    for hop in hops:
        own = evidence.path_units.get(hop.role, ())
        if own and hop.unit not in own:
            return f"through {hop.unit or f'a {hop.role} without a name'}, not through {' or '.join(own)}"
    return ""


def _other_form(hops: Sequence[Hop], evidence: Evidence) -> str:
    """Returns what a unit did with the body that its topology does not do; empty if nothing."""
    reads = evidence.abilities.reads_payload
    for hop in hops:
        if hop.form and (hop.form == PARSED) is not reads:
            return (
                f"with a body that {hop.unit} has {hop.form}; its topology {'parses' if reads else 'passes on'} bodies"
            )
    if reads and any(hop.unit for hop in hops) and not any(hop.form for hop in hops):
        return "with a body that no unit says to have parsed; its topology parses bodies"
    return ""


def _through(roles: Sequence[str]) -> str:
    return f"through {' and '.join(roles)}" if roles else "directly"


def _absent(evidence: Evidence) -> bool:
    return bool(evidence.arrivals)


CHECKER = Checker(
    name=NAME,
    question="Did each request pass through the units of its topology, and no others?",
    blind="units that do not add themselves to `via`, such as L4 balancers, and the way of copies",
    subject="a topology whose units mark the path",
    claim=Claim.CORRECTNESS,
    absent=_absent,
    check=check,
)
