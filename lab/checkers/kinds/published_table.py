"""Is the route table in force the one whose text was published?"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.plain_table import differences, without_empty_tenants
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence

NAME = "table"

_SHOWN = 3


def check(evidence: Evidence) -> Verdict | None:
    """Compares what the control plane kept of each revision with the checkers' own reading of the published text.

    The text of a rollback is that of the revision to which it goes back. A change of single use cases or models, as a
    rollout publishes, has no text of the whole table, and is not compared.

    Returns:
        None if no revision's text is known, or nothing was recorded. A violation names the first request that such a
        revision decided.
    """
    known = [each for each in evidence.revisions if each.kept is not None]
    if not known or not evidence.records:
        return None
    violations = []
    for each in known:
        if found := list(islice(differences(without_empty_tenants(each.kept or {}), each.document), _SHOWN)):
            message = f"the control plane keeps revision {each.revision} with {'; '.join(found)} as published"
            decided = (record for record in evidence.records if record.revision == each.revision)
            record = next(decided, evidence.records[0])
            violations.append(Violation(NAME, record.sequence, record.request_id, message))
    summary = f"{len(known)} of {len(evidence.revisions)} revisions compared with their published text"
    if violations:
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} differ; {summary}", tuple(violations))
    return Verdict(NAME, Outcome.VALID, summary)


def _absent(evidence: Evidence) -> bool:
    return bool(evidence.records) and all(each.kept is None for each in evidence.revisions)


CHECKER = Checker(
    name=NAME,
    question="Is the route table in force the one whose text was published?",
    blind="changes of single use cases, as a rollout publishes them",
    subject="a revision whose text was kept",
    claim=Claim.CORRECTNESS,
    absent=_absent,
    check=check,
)
