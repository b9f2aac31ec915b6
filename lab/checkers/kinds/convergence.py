"""Do resolvers and gateways themselves answer by the revision that the control plane says they follow?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from lab.checkers.checker import Checker
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence, FaultWindow, ProbeAnswer
    from lab.checkers.revision_timeline import RevisionInForce

NAME = "convergence"
_ROLES = ("resolver", "gateway")
_BESIDE_CALLER = "-resolver"

SILENT_NS = 3_000_000_000
"""Time without an answer that is a node's and not its prober's: each is asked when the run ends."""

_MS = 1e6


def check(evidence: Evidence) -> Verdict | None:
    """Compares each probe of a node with the revisions that were in force between question and answer.

    Nodes are all resolvers and gateways of the lab, those included that the run's requests do not ask. A revision that
    changes no rule, such as a model's move, is not sent to resolvers, so a node may answer by an earlier one with the
    same rules. Probes while a fault that hit the node or a control plane was marked are left out, until the time after
    it in which its kind promises that all is as before; so are revisions of which the run has no table. From then on
    the node must have answered.

    Returns:
        None if no node answered a probe. Invalid if one answered by a revision that had ended before the question, or
        never answered again after a fault.
    """
    numbered = cache(evidence.timeline.numbered)
    judged = [each for each in evidence.probes if each.revision in numbered("") and not _disturbed(each, evidence)]
    if not judged or not evidence.records:
        return None
    violations = []
    for probe in judged:
        # A gateway's probe asks for the revision that is in force for all callers.
        caller = probe.unit.removesuffix(_BESIDE_CALLER)
        revisions = [each.revision for each in numbered(caller).values()]
        answered_by = numbered(caller)[probe.revision].revision
        is_own, until_ns = answered_by.is_for(caller), answered_by.until_ns
        if is_own and (until_ns is None or until_ns >= probe.asked_ns):
            continue
        now = [each for each in revisions if each.is_for(caller) and _in_force(each, probe)]
        if any(_rules_of(each.document) == _rules_of(answered_by.document) for each in now):
            continue
        late = f"{(probe.asked_ns - (until_ns or 0)) / _MS:.0f} ms after that had ended" if is_own else "of others"
        message = f"{probe.unit} answered by revision {probe.revision} {late}"
        nearest = min(evidence.records, key=lambda record: abs(record.sent_ns - probe.asked_ns))
        violations.append(Violation(NAME, nearest.sequence, nearest.request_id, message))
    violations += _silent(evidence)
    summary = f"{len(judged)} probes of {len({each.unit for each in judged})} nodes"
    if violations:
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} objections; {summary}", tuple(violations))
    return Verdict(NAME, Outcome.VALID, f"{summary}, each by a revision in force")


def _in_force(revision: RevisionInForce, probe: ProbeAnswer) -> bool:
    return revision.from_ns <= probe.answered_ns and (revision.until_ns is None or revision.until_ns >= probe.asked_ns)


def _disturbed(probe: ProbeAnswer, evidence: Evidence) -> bool:
    return any(
        each.from_ns <= probe.answered_ns
        and (each.until_ns is None or (each.over_ns or each.until_ns) >= probe.asked_ns)
        and _hits(each, probe.unit)
        for each in _faults(evidence)
    )


def _faults(evidence: Evidence) -> list[FaultWindow]:
    return [*evidence.fault_windows, *evidence.faults_elsewhere]


def _hits(fault_window: FaultWindow, node: str) -> bool:
    role = next((each for each in _ROLES if each in node.split("-")), node)
    return fault_window.target in (node, role) or fault_window.target.startswith("control-plane")


def _silent(evidence: Evidence) -> Iterator[Violation]:
    """Yields, of each node that a fault hit, that it has not answered since it must be as before."""
    last_ns = {each.unit: each.answered_ns for each in sorted(evidence.probes, key=lambda one: one.answered_ns)}
    end_ns = max(record.sent_ns for record in evidence.records)
    for unit, answered_ns in last_ns.items():
        hit = [each for each in _faults(evidence) if _hits(each, unit)]
        over_ns = max((each.over_ns or end_ns for each in hit), default=end_ns)
        if over_ns + SILENT_NS <= end_ns and answered_ns < over_ns:
            since = f"{(end_ns - over_ns) / 1e9:.1f} s after it had to be as before"
            last = max(evidence.records, key=lambda record: record.sent_ns)
            message = f"{unit} had not answered a probe {since} ({hit[-1].text})"
            yield Violation(NAME, last.sequence, last.request_id, message)


def _rules_of(document: Mapping[str, Any]) -> tuple[Any, ...]:
    """Returns what resolvers learn of a table: all but where versions run, and limits."""
    versions = {
        f"{model}@{version}": its.get("config", {})
        for model, entry in document["models"].items()
        for version, its in entry["versions"].items()
    }
    return document["use_cases"], versions


def _absent(evidence: Evidence) -> bool:
    """No node answered, though no fault explains it."""
    return not evidence.probes and not any(_hits(each, "") or each.role in _ROLES for each in _faults(evidence))


CHECKER = Checker(
    name=NAME,
    question="Do resolvers and gateways answer by a revision that the control plane says is in force?",
    blind="Envoys, third-party proxies and clients, which do not say by which revision they decide; and, "
    "between two probes, nodes that the requests do not ask",
    subject="a resolver or gateway that was probed",
    claim=Claim.CORRECTNESS,
    absent=_absent,
    check=check,
)
