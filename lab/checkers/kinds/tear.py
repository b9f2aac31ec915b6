"""Did the header and the body of any answered request name different models?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.plain import version_of
from lab.checkers.revision_timeline import by_model
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence

NAME = "tear"


def check(evidence: Evidence) -> Verdict:
    """Compares each decision's routing key with the model version that answered.

    Behind a gateway the driver does not learn the key. There the models' own check stands alone: they refuse torn
    requests, which the routing checker judges; so answers without a key count, and the summary says how many.

    Returns:
        Invalid with any tear; unknown if no model answered.
    """
    answered = compared = 0
    torn: list[Violation] = []
    for record in evidence.records:
        if not by_model(record):
            continue
        answered += 1
        if not record.routing_key:
            continue
        compared += 1
        served = f"{record.model}.{record.version}"
        if version_of(record.routing_key) != served:
            message = f"the routing key is {record.routing_key}, but {served} answered"
            torn.append(Violation(NAME, record.sequence, record.request_id, message))
    if not answered:
        return Verdict(NAME, Outcome.UNKNOWN, "no model answered, so nothing is shown")
    summary = f"{len(torn)} torn of {answered} answers, {compared} of which carry the routing key of their decision"
    return Verdict(NAME, Outcome.INVALID if torn else Outcome.VALID, summary, tuple(torn))


CHECKER = Checker(
    name=NAME,
    question="Did header and body of every answered request name the same model version?",
    blind="behind a gateway, what key was decided: there the models' own refusal shows it",
    claim=Claim.CORRECTNESS,
    check=check,
)
