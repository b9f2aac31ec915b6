"""Does a unit always get the same version under one revision, in every topology?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.revision_timeline import Rules, by_chosen_model, reference, request
from lab.checkers.verdict import Claim, Outcome, TooFew, Verdict, Violation

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence
    from lab.history import Record

NAME = "stickiness"


def check(evidence: Evidence) -> Verdict | None:
    """Compares the answers of each unit under one revision with its first one.

    A unit is a use case with the values of all context fields that its rules read. The check does not know how units
    are drawn; the routing checker judges whether the version is allowed. A request counts if a split or an experiment
    decided it, if only one revision was in force while it was in flight, and if the chosen version answered: which
    fallback answers depends on what failed.

    Returns:
        None if no request met a split or an experiment; unknown if no unit was answered twice under one revision.
    """
    timeline = evidence.timeline
    first: dict[tuple[int, tuple[str, ...]], Record] = {}
    again: set[tuple[int, tuple[str, ...]]] = set()
    compared = 0
    drawn = False
    violations: list[Violation] = []
    for record in evidence.records:
        found = timeline.during(record)
        came = any(rules.draw(record) for rules in found)
        drawn = drawn or came
        if not came or len(found) > 1 or not by_chosen_model(record):
            continue
        [rules] = found
        key = (rules.number, rules.unit(record))
        before = first.setdefault(key, record)
        if before is record:
            continue
        compared += 1
        again.add(key)
        if reference(before) != reference(record):
            message = (
                f"{_in_words(rules, record)} got {reference(record)}, but {reference(before)} for {request(before)}, "
                f"both under revision {rules.number}"
            )
            violations.append(Violation(NAME, record.sequence, record.request_id, message))
    if not drawn:
        return None
    summary = f"{len(again)} of {len(first)} units were answered again, {compared} times"
    if violations:
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} by another version; {summary}", tuple(violations))
    if not again:
        why = "no unit was answered twice under one revision"
        return Verdict(NAME, Outcome.UNKNOWN, f"{why}; {summary}", too_few=TooFew(why, 2.0))
    return Verdict(NAME, Outcome.VALID, f"{summary}, always by the same version")


def _in_words(rules: Rules, record: Record) -> str:
    fields = ((field, getattr(record, field)) for field in rules.reads(record.use_case))
    return f"{record.use_case} for " + ", ".join(f"{field} {value}" for field, value in fields if value)


CHECKER = Checker(
    name=NAME,
    question="Does a unit always get the same version under one revision?",
    blind="units that were answered once",
    subject="a split or an experiment",
    claim=Claim.CORRECTNESS,
    check=check,
)
