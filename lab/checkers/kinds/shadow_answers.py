"""Did each shadow copy get the answer that its version must give, and how far is that from the user's?"""

from __future__ import annotations

from collections import defaultdict
from statistics import fmean
from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.plain import version_of
from lab.checkers.plain_chat import wanted_of, weights_of
from lab.checkers.plain_models import ASKED, answer_digest, first_item
from lab.checkers.revision_timeline import by_chosen_model, request
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation
from lab.history.arrivals import NOT_RECORDED

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence

NAME = "shadow answers"


def check(evidence: Evidence) -> Verdict | None:
    """Compares what copies were answered with what their versions must answer, and with users' answers.

    Returns:
        None if no copy of the run's requests was answered, or replicas of an earlier release did not keep how. Invalid
        with each copy that got another answer than its version must give, or of which its model does not say what it
        got. The summary has, for each use case, how many copies have another first item than the user's answer, and by
        how much the first scores differ on average, 0 to 1.
    """
    records = {record.request_id: record for record in evidence.records}
    judged, violations = 0, []
    differ: dict[str, list[tuple[bool, float]]] = defaultdict(list)
    for each in evidence.arrivals or ():
        record = records.get(each.request_id)
        if not each.is_copy or each.status != "OK" or each.answer == NOT_RECORDED or record is None:
            continue
        rules = evidence.timeline.during(record)
        if not rules or (api := rules[0].api(record.use_case)) not in ASKED:
            continue
        judged += 1
        model, _, version = version_of(each.routing_key).partition(".")
        weights = weights_of(evidence.plan_document, record.sequence, version)
        wanted = wanted_of(evidence.plan_document, record.sequence)
        if each.answer != answer_digest(api, model, weights, record.user_id, wanted):
            what = "another answer than it must give" if each.answer else "an answer that it does not say"
            message = f"{each.replica} gave the copy for {each.routing_key} of {request(record)} {what}"
            violations.append(Violation(NAME, record.sequence, record.request_id, message))
        elif by_chosen_model(record):
            item_id, score = first_item(api, model, weights, record.user_id)
            differ[record.use_case].append((item_id != record.item_id, abs(score - record.score)))
    if not judged:
        return None
    summary = f"{judged} copies were answered"
    for use_case, its in sorted(differ.items()):
        others, apart = sum(other for other, _ in its), fmean(score for _, score in its)
        summary += f"; {use_case}: another first item in {others} of {len(its)}, first scores {apart:.2f} apart"
    if violations:
        return Verdict(
            NAME, Outcome.INVALID, f"{len(violations)} wrong answers to copies; {summary}", tuple(violations)
        )
    return Verdict(NAME, Outcome.VALID, summary)


CHECKER = Checker(
    name=NAME,
    question="Did each shadow copy get the answer that its version must give?",
    blind="copies that had not ended when replicas were asked, and whether a difference from the user's answer is good",
    subject="a shadow copy that was answered",
    claim=Claim.CORRECTNESS,
    check=check,
)
