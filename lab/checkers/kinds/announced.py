"""Did models receive only requests that somebody had announced?"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.evidence import prefix_of
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence
    from lab.history.arrivals import Arrival

NAME = "announced"

_THIS_RUNS = "this run's"
_NAMED = 6

_WARM_UP = ".warm-up"
_HEX = re.compile("[0-9a-f]+")


def check(evidence: Evidence) -> Verdict | None:
    """Looks up the id of everything that models received, copies included, however it ended.

    Runs, faults and units announce what their ids begin with. An id of this run must be one of its plan: its prefix,
    that of one of several drivers, or one call per use case before the run.

    Returns:
        None for a run of an earlier release, whose ids nobody announced. Invalid with any other id, and with requests
        without one. Unknown if the replicas were not asked what they received.
    """
    if evidence.announced is None:
        return None
    if evidence.arrivals is None:
        return Verdict(NAME, Outcome.UNKNOWN, "the replicas were not asked what they received")
    violations: list[Violation] = []
    counts: Counter[str] = Counter()
    ids = {record.request_id for record in evidence.records}
    for each in evidence.arrivals:
        if each.request_id in ids:
            counts[_THIS_RUNS] += 1
        elif message := _objection(each, evidence):
            violations.append(Violation(NAME, -1, each.request_id, f"{each.replica} received {message}"))
        else:
            counts[evidence.announced.get(prefix_of(each.request_id), "this run's warm-up")] += 1
    names = sorted(counts, key=lambda who: (who != _THIS_RUNS, -counts[who]))
    parts = [f"{counts[who]} {who}" for who in sorted(names[:_NAMED])]
    if others := names[_NAMED:]:
        parts.append(f"{sum(counts[who] for who in others)} of {len(others)} others")
    summary = ", ".join(parts) or "models received nothing"
    if violations:
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} of nobody; {summary}", tuple(violations))
    return Verdict(NAME, Outcome.VALID, summary)


def _objection(arrival: Arrival, evidence: Evidence) -> str:
    """Returns what is wrong with an id that no record of the run has, in words; empty if it is announced."""
    what = f"{arrival.request_id or 'a request without an id'} for {arrival.routing_key}"
    prefix, number = prefix_of(arrival.request_id), arrival.request_id.rpartition("-")[2]
    own = evidence.id_prefix
    if not own or (prefix != own and not prefix.startswith(f"{own}.")):
        return "" if prefix in (evidence.announced or {}) else f"{what}, which nobody had announced"
    if prefix.endswith(_WARM_UP):
        mix = evidence.request_mix
        return f"{what}, which no warm-up sends" if mix and number not in map(str, range(len(mix.use_cases))) else ""
    planned = evidence.offered_rate is None or (_HEX.fullmatch(number) and int(number, 16) < evidence.planned)
    return "" if planned else f"{what}, which this run did not plan"


def _absent(evidence: Evidence) -> bool:
    return evidence.announced is None


CHECKER = Checker(
    name=NAME,
    question="Did models receive only requests that somebody had announced?",
    blind="requests that reached no model, and those with a forged id under an announced prefix of another run",
    subject="announced ids",
    claim=Claim.CORRECTNESS,
    absent=_absent,
    check=check,
)
