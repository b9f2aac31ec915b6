"""Finds what a run was to cover by its plan and tables, and met too little of.

A place is a use case, a rule, a version that a rule chooses, either side of a condition or a negation, a cell, or an
edge bucket of a draw.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from random import Random
from typing import TYPE_CHECKING

from lab.checkers.plain import passed
from lab.checkers.revision_timeline import Rules, reference
from lab.measure.binomial import sigmas, tail

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence, RequestMix
    from lab.history import Record

DRAWN = 4_000
"""Requests that are drawn from the plan's mix, to learn which share of them meets a place."""

SIGMAS = 5
LEAST_EXPECTED = 14
"""Of so many that are expected, none at all is rarer than 5 sigma: e⁻¹⁴."""


@dataclass(slots=True)
class _Met:
    """What requests met under tables with the same rules: how often which places together."""

    rules: Rules
    sent: int = 0
    asked: Counter[tuple[str, ...]] = field(default_factory=Counter)
    answered: Counter[tuple[str, ...]] = field(default_factory=Counter)


def too_little(evidence: Evidence, answered: Iterable[Record]) -> list[str]:
    """Returns the places that the run was to cover and has not, each with counts, in words.

    A place was to be covered if the plan's mix meets it so often that no chance explains its absence. It is missed if
    fewer requests met it than 5 sigma below what the mix leads one to expect, or if none of those was answered.

    Args:
        evidence: of the run; without its ``request_mix``, nothing is known to be missing.
        answered: the records of requests that were answered, or refused as the rules say.
    """
    if evidence.request_mix is None:
        return []
    groups: dict[str, _Met] = {}
    by_revision: dict[int, _Met] = {}
    ok = {record.sequence for record in answered}
    for record in evidence.records:
        rules = evidence.timeline.alone(record)
        if rules is None:
            continue
        met = by_revision.get(rules.number)
        if met is None:
            met = by_revision[rules.number] = groups.setdefault(_rules_of(rules, evidence.request_mix), _Met(rules))
        places = met.rules.places(record)
        met.sent += 1
        met.asked[places] += 1
        if record.sequence in ok:
            met.answered[places] += 1
    return [text for met in groups.values() for text in _missed(met, evidence.request_mix)]


def places_met(evidence: Evidence) -> dict[str, int]:
    """Returns how many requests met each place, and each fallback, while one revision alone was in force.

    None did of a run whose revisions are not known.
    """
    if evidence.missing:
        return {}
    together: Counter[tuple[str, ...]] = Counter()
    counts: Counter[str] = Counter()
    for record in evidence.records:
        rules = evidence.timeline.alone(record)
        if rules is None:
            continue
        together[rules.places(record)] += 1
        if record.source == "fallback":
            counts[f"fallback to {reference(record)} of {record.use_case}"] += 1
    return dict(sorted((counts + _each(together)).items()))


def _each(together: Mapping[tuple[str, ...], int]) -> Counter[str]:
    """Returns how many requests met each place, of counts of those that met the same ones."""
    counts: Counter[str] = Counter()
    for places, times in together.items():
        for place in places:
            counts[place] += times
    return counts


def _rules_of(rules: Rules, request_mix: RequestMix) -> str:
    """Returns a key that is equal for tables with the same rules, as when only a model moves."""
    use_cases = rules.revision.document["use_cases"]
    return json.dumps([use_cases.get(name) for name in request_mix.use_cases])


def _missed(met: _Met, request_mix: RequestMix) -> Iterator[str]:
    if met.sent < LEAST_EXPECTED:
        return
    document, all_asked, all_answered = met.rules.revision.document, _each(met.asked), _each(met.answered)
    drawn = Counter(place for use_case, context in _drawn(request_mix) for place in passed(document, use_case, context))
    for place, hits in drawn.items():
        share = (hits - SIGMAS * hits**0.5) / DRAWN  # the least that the draw leaves possible
        expected = met.sent * share
        if expected < LEAST_EXPECTED:
            continue
        asked, answered = all_asked[place], all_answered[place]
        if asked < expected and sigmas(tail(asked, met.sent, share)) > SIGMAS:
            yield f"{place}: {asked} of {met.sent} requests met it, {met.sent * hits / DRAWN:.0f} were to"
        elif not answered:
            yield f"{place}: none of {asked} requests was answered"


def _drawn(request_mix: RequestMix) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields requests of the plan's mix, drawn by the checkers' own generator."""
    random = Random("coverage")  # noqa: S311 (not security-relevant)
    choices: Sequence[tuple[str, tuple[str, ...]]] = tuple(request_mix.contexts.items())
    edge_cases = cycle(request_mix.edge_cases) if request_mix.edge_cases and request_mix.edge_every else None
    for number in range(1, DRAWN + 1):
        context = {"caller": request_mix.caller, "traffic_origin": request_mix.traffic_origin}
        context["user_id"] = f"u{random.randrange(request_mix.users)}"
        context.update((name, random.choice(values)) for name, values in choices)
        use_case = random.choice(request_mix.use_cases)
        if edge_cases is not None and number % request_mix.edge_every == 0:
            use_case, own = next(edge_cases)
            context |= own
        yield use_case, context
