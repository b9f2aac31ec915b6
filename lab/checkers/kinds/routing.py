"""Was every request answered by a model version that the rules in force allow, or refused as they say?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lab.checkers.checker import Checker
from lab.checkers.evidence import MissingEvidenceError
from lab.checkers.plain_chat import wanted_of, weights_of
from lab.checkers.plain_models import ASKED, answer_digest, score_of
from lab.checkers.revision_timeline import Rules, reference
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation
from lab.history import UNSENT, Record

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence
    from lab.checkers.plain import Expected

NAME = "routing"

REFUSALS = frozenset({"NOT_FOUND", "PERMISSION_DENIED", "FAILED_PRECONDITION", "INVALID_ARGUMENT"})


def check(evidence: Evidence) -> Verdict:
    """Judges every record on its own.

    A model's answer is right if a revision in force at any time between sending and answer expects that model version,
    if it or a later such revision has the version in that cluster, and if the score proves that the version computed
    it, with the request's adapter; all its items must be there, best first, each with its score. A fallback's answer is
    right if such a revision has it among the fallbacks, with the same proof. A refusal is right if such a revision
    expects it. Other errors show nothing about routing and are counted as failed. A caller's own default answer is
    counted as such.

    Returns:
        Invalid with any violation; unknown if no model answered, or if no known revision covers a record's time.
    """
    timeline = evidence.timeline
    violations: list[Violation] = []
    counts: Counter[str] = Counter()
    for record in evidence.records:
        kind = _kind(record)
        counts[kind] += 1
        if kind not in {"answered", "fell back", "refused"}:
            continue
        rules = timeline.during(record)
        if not rules:
            counts["unjudged"] += 1
        elif message := _objection(record, kind, rules, evidence.plan_document):
            violations.append(Violation(NAME, record.sequence, record.request_id, message))
    return _verdict(counts, tuple(violations))


def _kind(record: Record) -> str:
    if record.status == "OK":
        return {"default": "defaulted", "fallback": "fell back"}.get(record.source, "answered")
    if record.status == UNSENT:
        return "unsent"
    return "refused" if record.status in REFUSALS else "failed"


def _verdict(counts: Counter[str], violations: tuple[Violation, ...]) -> Verdict:
    summary = f"{counts['answered']} answered by models, {counts['refused']} refused, {counts['failed']} failed"
    for kind, words in (
        ("fell back", "answered by a fallback"),
        ("defaulted", "answered by the caller's own default"),
        ("unsent", "not sent"),
        ("unjudged", "at a time that no known revision covers"),
    ):
        if counts[kind]:
            summary += f", {counts[kind]} {words}"
    if violations:
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} not as the rules say; {summary}", violations)
    if not counts["answered"] and not counts["fell back"]:
        return Verdict(NAME, Outcome.UNKNOWN, f"no model answered, so nothing is shown; {summary}")
    if counts["unjudged"]:
        return Verdict(NAME, Outcome.UNKNOWN, summary)
    return Verdict(NAME, Outcome.VALID, summary)


def _objection(record: Record, kind: str, rules: Sequence[Rules], plan: Mapping[str, Any]) -> str:
    """Returns the objection to a record, empty if there is none."""
    if kind == "refused":
        allowed = _wanted(record, rules)
        if record.status in {each.status for each in allowed}:
            return ""
        # The refusal may have another reason than routing, but statuses mean the same in every topology.
        return f"refused with {record.status} ({record.message[:80]!r}); {_in_words(allowed)}"
    who = f"{reference(record)} on {record.cluster}"
    if message := _not_allowed(record, who, rules):
        return message
    weights = weights_of(plan, record.sequence, record.version)
    proof = score_of(record.model, weights, record.user_id, record.item_id)
    if proof != record.score:
        return (
            f"{who} did not compute this answer: item {record.item_id!r} of user {record.user_id!r} scores "
            f"{proof!r}, not {record.score!r}"
        )
    # Streams have their own checker; runs of earlier releases have no digest.
    if record.items_digest and not record.streamed:
        if (api := rules[0].api(record.use_case)) not in ASKED:
            raise MissingEvidenceError(f"what a request of {api} asks about is not known to the checkers")
        right = answer_digest(api, record.model, weights, record.user_id, wanted_of(plan, record.sequence))
        if record.items_digest != right:
            return f"{who} did not give this answer: it lacks an item, or has another item, order or score than it must"
    return ""


def _not_allowed(record: Record, who: str, rules: Sequence[Rules]) -> str:
    if record.source == "fallback":
        right = _chosen_and_present(record, rules, lambda each: each.fallbacks(record))
        return "" if right else f"answered by {who} as a fallback; {_chains_in_words(record, rules)}"
    if record.source != "model":
        return f"OK from source {record.source!r}, which is neither a model nor the caller's own default"
    if _chosen_and_present(record, rules, lambda each: (each.expected(record),)):
        return ""
    return f"answered by {who}; {_in_words(_wanted(record, rules))}"


def _chosen_and_present(record: Record, rules: Sequence[Rules], choices: Callable[[Rules], Iterable[Expected]]) -> bool:
    """Whether one revision chooses this model version, and that one or a later one has it in this cluster.

    A publish sends endpoints before rules, so a request decided by one revision may be routed by the next. The reverse
    is a violation, unless the deciding revision has failed: its rollback sends endpoints first, too.
    """
    chosen = ("OK", record.model, record.version)
    for place, each in enumerate(rules):
        routing = rules if each.failed else rules[place:]
        shards = [choice.shard for choice in choices(each) if choice[:3] == chosen]
        if any(later.runs(record, shard) for shard in shards for later in routing):
            return True
    return False


def _wanted(record: Record, rules: Iterable[Rules]) -> dict[Expected, int]:
    """Returns what the revisions expect of a request, each with the first revision that does."""
    allowed: dict[Expected, int] = {}
    for each in rules:
        allowed.setdefault(each.expected(record), each.number)
    return allowed


def _in_words(allowed: Mapping[Expected, int]) -> str:
    return ", ".join(f"revision {revision} wants {_who(expected)}" for expected, revision in allowed.items())


def _chains_in_words(record: Record, rules: Iterable[Rules]) -> str:
    chains = ((each.number, ", then ".join(map(_who, each.fallbacks(record)))) for each in rules)
    return "; ".join(f"revision {revision} falls back to {chain or 'none'}" for revision, chain in chains)


def _who(expected: Expected) -> str:
    return f"{reference(expected)} on {expected.cluster}" if expected.status == "OK" else expected.status


CHECKER = Checker(
    name=NAME,
    question="Did a model version answer that the rules in force allow, and does the score prove it?",
    blind="which of two revisions in force at the same time decided",
    claim=Claim.CORRECTNESS,
    check=check,
)
