"""Did the models receive what the caller sent, and the config that the rules give the request?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.plain_chat import prompt_of
from lab.checkers.plain_models import PARTS, config_digest, context_digest, digest_of, parts_of, payload_digest
from lab.checkers.revision_timeline import Rules, by_model, context_of, reference
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence
    from lab.history import Record

NAME = "delivery"

_OF_EVERY_ATTEMPT = ("context", "payload")


def check(evidence: Evidence) -> Verdict:
    """Compares the receipts of answers and of shadow copies with what the plain interpreter expects.

    A receipt has a keyed digest of each of three parts. *context*: request id, use case and all fields of the request
    context, as sent. *config*: model, version and parameters that a revision in force gives this request; a copy has
    those of the original request. *payload*: the rest of the request, as the driver builds it for this size or for
    this turn of a conversation. Context and payload are compared of each attempt, also of those that were not answered.

    Returns:
        Invalid if a model received something else. Unknown if no model answered, or if some give no receipt, as servers
        other than the lab's stub may not.
    """
    expected = _Expected(evidence)
    wrong: list[Violation] = []
    counts: Counter[str] = Counter()
    for record in evidence.records:
        copies, key = evidence.copies_by_request.get(record.request_id, ()), evidence.receipt_key(record.request_id)
        for each in evidence.attempts.get(record.request_id, ()):
            if each.received and each.received != record.received and key:
                counts["attempts"] += 1
                if lost := expected.lost(record, each.received, is_copy=False, of=_OF_EVERY_ATTEMPT):
                    wrong.append(_violation(record, each.replica, lost))
        for what, receipt in [("answers", record.received)] * by_model(record) + [
            ("copies", receipt) for _, receipt in copies
        ]:
            if not receipt or not key:
                counts["silent"] += 1
                continue
            counts[what] += 1
            is_copy = what == "copies"
            if lost := expected.lost(record, receipt, is_copy=is_copy):
                wrong.append(
                    _violation(record, "the shadow" if is_copy else f"{reference(record)} at {record.replica}", lost)
                )
    return _verdict(counts, tuple(wrong))


def _violation(record: Record, who: str, lost: Sequence[str]) -> Violation:
    message = f"{who} received another {', '.join(lost)} than was sent, or than the rules say"
    return Violation(NAME, record.sequence, record.request_id, message)


class _Expected:
    """The digests that are right for a record."""

    def __init__(self, evidence: Evidence) -> None:
        self._key_of = evidence.receipt_key
        self._timeline, self._plan = evidence.timeline, evidence.plan_document
        self._configs: dict[tuple[object, ...], str] = {}

    def lost(self, record: Record, receipt: str, *, is_copy: bool, of: Sequence[str] = PARTS) -> list[str]:
        """Returns the parts, of these, that are wrong in a receipt."""
        parts, allowed = parts_of(receipt), self.of(record, is_copy=is_copy)
        return [part for part in of if part in allowed and parts[part] not in allowed[part]]

    def of(self, record: Record, *, is_copy: bool) -> Mapping[str, Sequence[str]]:
        """Returns them by part; no config if no rule allows this version, which the checker of routing judges."""
        rules = self._timeline.during(record)
        # A copy has the body of the first attempt, whose config may have been that of a tear.
        judges_config = not is_copy or record.attempts <= 1
        key = self._key_of(record.request_id)
        digest = context_digest(key, record.request_id, record.use_case, context_of(record))
        expected = {"context": [digest]}
        if judges_config and (configs := list(self._config(key, record, rules, is_copy=is_copy))):
            expected["config"] = configs
        if prompt := prompt_of(self._plan, record.sequence):
            expected["payload"] = [digest_of(key, prompt.payload)]
        elif apis := dict.fromkeys(each.api(record.use_case) for each in rules):
            expected["payload"] = [payload_digest(key, api, record.payload_bytes) for api in apis]
        return expected

    def _config(self, key: str, record: Record, rules: Sequence[Rules], *, is_copy: bool) -> Iterator[str]:
        for each in rules:
            chosen = each.expected(record)
            if is_copy or record.source == "model":
                if not is_copy and (chosen.model, chosen.version) != (record.model, record.version):
                    continue
                digest = (key, each.number, *each.unit(record))
                if chosen.status == "OK" and digest not in self._configs:
                    parameters = each.decision(record).parameters
                    self._configs[digest] = config_digest(key, chosen.model, chosen.version, parameters)
            else:
                digest = (key, each.number, record.model, record.version)
                if digest not in self._configs:
                    parameters = each.config(record.model, record.version)
                    self._configs[digest] = config_digest(key, record.model, record.version, parameters)
            if digest in self._configs:
                yield self._configs[digest]


def _verdict(counts: Counter[str], wrong: tuple[Violation, ...]) -> Verdict:
    summary = f"{counts['answers']} answers and {counts['copies']} copies say what the model received"
    if wrong:
        return Verdict(NAME, Outcome.INVALID, f"{len(wrong)} not as sent, or not as the rules say; {summary}", wrong)
    if counts["silent"]:
        return Verdict(NAME, Outcome.UNKNOWN, f"{summary}; {counts['silent']} do not")
    if not counts["answers"]:
        return Verdict(NAME, Outcome.UNKNOWN, "no model answered, so nothing is shown")
    return Verdict(NAME, Outcome.VALID, f"{summary}, each as it was sent")


CHECKER = Checker(
    name=NAME,
    question="Did the models receive what was sent, with the config that the rules give?",
    blind="a loss that the digests of two requests share (64 bits each), and servers that give no receipt",
    claim=Claim.CORRECTNESS,
    check=check,
)
