"""Was each cached token cached, and each pick one that the policy allows with what it had seen?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lab.checkers import Checker, Claim, Outcome, Verdict, Violation
from lab.plugins.pickers import queue_checks
from lab.plugins.pickers.journals import Run, gather
from lab.plugins.pickers.pick_checks import PICK_CHECKS
from lab.plugins.pickers.prefill_checks import PREFILL_CHECKS, prefill_words
from lab.plugins.pickers.readers import READERS, is_stale
from lab.plugins.pickers.replica_checks import REPLICA_CHECKS, refused_by_full_queues
from lab.plugins.pickers.ring_checks import PICKER, RING_CHECKS, placed

if TYPE_CHECKING:
    from lab.checkers import Evidence

NAME = "picks"


def check(evidence: Evidence) -> Verdict | None:
    """Replays the journals of replicas, and the picks of gateways, each with separate code.

    *Hits*: a second cache, from the start of the replica on, finds as many tokens of each prompt as the replica says,
    in its journal and in the answer; its KV events say what that cache does.
    Tokens and hashes of a prompt are those of the plan, with the tenant of its request. *Queues*: first in first out,
    not more at once than there is room for, and nothing refused that had room; a refusal reaches its caller with its
    reason. *Adapters*: no more than there is room for, the one that was unused for longest goes first, and none is used
    before it is loaded; pickers saw those that were there. *Picks*: the policy's second reader allows each, with what
    the picker had seen; it had seen all replicas that were registered, after 2 s and unless something was broken, and
    none that was gone, and counted right what was in flight and reserved. Each attempt came to the replica that was
    picked for it, and a conversation's requests in their order. *Queues of gateways*: by the table's priorities; the
    second reader allows when a request waited, whose turn it was and which was shed, and its caller learns why.
    *Ring of hashes*: where Envoys and gRPC clients pick by one, each request of a conversation came to the replica that
    the ring of the registered replicas gives it, unless something was broken.
    *Prefill and decode*: a request that a picker had prefilled by another replica is in that replica's journal as such,
    and no other one is.

    Returns:
        None if no model generates tokens. Unknown if nothing was asked of any, if a journal is not whole, or if a
        picker has no second reader.
    """
    gathered = evidence.gathered.get(NAME)
    if gathered is None:
        return None
    run = Run(evidence, gathered)
    checks = (*REPLICA_CHECKS, *PICK_CHECKS, *PREFILL_CHECKS, *queue_checks.QUEUE_CHECKS, *RING_CHECKS)
    found = [each for part in checks for each in part(run)]
    wrong = tuple(
        Violation(NAME, record.sequence if record is not None else 0, each.request_id, each.message)
        for each in found
        for record in [run.records.get(each.request_id)]
    )
    summary = _summary(run)
    if wrong:
        return Verdict(NAME, Outcome.INVALID, f"{len(wrong)} are wrong; {summary}", wrong)
    doubts = list(_doubts(run))
    if doubts:
        return Verdict(NAME, Outcome.UNKNOWN, f"{'; '.join(doubts)}; {summary}")
    return Verdict(NAME, Outcome.VALID, summary)


def explains(evidence: Evidence) -> set[str]:
    """Returns the requests that a full queue refused, of a replica by the replay of its journal, or of a gateway."""
    gathered = evidence.gathered.get(NAME)
    if not gathered:
        return set()
    run = Run(evidence, gathered)
    return refused_by_full_queues(run) | queue_checks.rightly_shed(run)


def _doubts(run: Run) -> Iterator[str]:
    """Yields why not all is known."""
    for name, journal in {**run.replicas, **run.gateways}.items():
        if journal["error"]:
            yield f"{name} could not be asked: {journal['error']}"
        elif journal["dropped"]:
            yield f"{name} has dropped the first {journal['dropped']} entries of its journal; start the lab again"
        elif not run.covers(journal) and (name in run.gateways or _was_there(run, name, journal["began_ns"])):
            yield f"{name} was started again during the run, and has lost its journal"
    if gone := sorted({*run.name_of.values()} - run.replicas.keys()):
        yield f"{', '.join(gone)} is gone, with its journal"
    if unread := sorted({each["policy"] for each in run.of_run} - READERS.keys()):
        yield f"picker {', '.join(unread)} has no second reader, so nobody can say which picks it allows"
    if unread := sorted(queue_checks.unread(run)):
        yield f"picker {', '.join(unread)} lets requests wait, and has no second reader that judges it"
    if run.picker == PICKER and not any(placed(run)):
        yield "the ring of hashes says of no request where it must come to"
    if not any(each["request_id"] in run.records for its in run.replicas.values() for each in its["entries"]):
        yield "no request of the run came to a model that generates tokens"


def _was_there(run: Run, replica: str, before_ns: int) -> bool:
    registrations = run.evidence.registrations
    return registrations is None or any(
        each.replica == replica and each.from_ns < before_ns for each in registrations.replicas
    )


def _summary(run: Run) -> str:
    mine = [
        each
        for its in run.replicas.values()
        for each in its["entries"]
        if each["request_id"] in run.records and each["began"] and not each.get("work")
    ]
    tokens, cached = sum(each["prompt"] for each in mine), sum(each["cached"] for each in mine)
    words = f"{len(mine)} prompts, {100 * cached / max(tokens, 1):.1f} % of their tokens cached"
    if run.of_run:
        policies = ", ".join(sorted({each["policy"] for each in run.of_run}))
        ages = [each["age_ms"] for pick in run.of_run for each in pick["seen"]]
        words += f"; {len(run.of_run)} picks by {policies}, with signals up to {max(ages):.0f} ms old"
        if stale := sum(any(is_stale(each, run.signal) for each in pick["seen"]) for pick in run.of_run):
            words += f", {stale} with a stale one"
        if further := sum(bool(each["tried"]) for each in run.of_run):
            words += f", {further} after another attempt"
        words += prefill_words(run)
    if run.picker == PICKER:
        words += f"; {sum(1 for _ in placed(run))} by the ring of hashes"
    if unpicked := len(run.unpicked.keys() & run.records.keys()):
        words += f"; {unpicked} sent by their caller without a pick"
    return words + queue_checks.summary(run)


def _absent(evidence: Evidence) -> bool:
    return evidence.gathered.get(NAME) is None


CHECKER = Checker(
    name=NAME,
    question="Was each cached token cached, and each pick one that the picker's policy allows with what it had seen?",
    subject="models that generate tokens",
    blind="whether what a signal says of load, but for adapters, was true when it was read",
    claim=Claim.CORRECTNESS,
    gather=gather,
    absent=_absent,
    explains=explains,
    check=check,
)
