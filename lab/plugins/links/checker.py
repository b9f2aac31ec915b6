"""The checker ``links``: did every request cross the links between its zones, and prefer its own zone?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import sqrt
from typing import TYPE_CHECKING, Any

from lab.checkers import Outcome, Verdict, Violation
from lab.checkers.checker import Checker
from lab.checkers.evidence import cluster_of
from lab.checkers.kinds.path import hops_in
from lab.links import ROLE as LINK
from lab.links import target_of
from lab.plugins.links import control
from lab.roles._links import zone_of

if TYPE_CHECKING:
    from lab.checkers import Evidence
    from lab.history import Record
    from lab.runs.drive import RunContext

NAME = "links"

CLOCK_MS = 0.1
"""Less than the links' delays by so much is not too fast: a time is rounded, and a clock may be slewed."""

LEAST = 100
"""Attempts that are enough to judge which zone they came to."""

SIGMAS = 5

_NS = 1_000_000


def gather(context: RunContext) -> dict[str, Any] | None:
    """Returns the zones of all units, the delays between them, and what each link says of itself."""
    spec = context.state.spec
    if spec.links is None:
        return None
    units = context.state.plan.units
    links = {}
    for unit in units:
        if unit.role == LINK:
            links[unit.name] = {"target": target_of(unit.name), "figures": control.read(unit)}
    zones = {unit.name: zone for unit in units if (zone := zone_of(spec, unit))}
    delays = {
        f"{here} {there}": spec.links.link(here, there).delay_ms
        for here in spec.links.zones
        for there in spec.links.zones
        if here != there
    }
    callers = {caller: zones[caller] for caller in spec.callers}
    return {"zones": zones, "delays": delays, "callers": callers, "links": links}


def check(evidence: Evidence) -> Verdict | None:
    """Compares the time of each answer with the delays of the links on its way, and counts zones.

    An answer cannot come sooner than the links between the zones of its units let it: one that does has passed a link
    by. Links delay no byte for less than they should, so this bound has no error but that of the clock. A node that
    prefers its own zone sends no more to others than it must: gRPC nothing while its zone has replicas, Envoy what
    exceeds the share of its zone's replicas, by the share of the callers that are there.

    Returns:
        None if the lab has no links. Invalid with any violation. Unknown if the replicas were not asked, no link says
        anything, or nothing was answered.
    """
    document = evidence.gathered.get(NAME)
    if document is None:
        return None
    if evidence.arrivals is None:
        return Verdict(NAME, Outcome.UNKNOWN, "the replicas were not asked what they received")
    silent = [name for name, each in document["links"].items() if each["figures"] is None]
    if silent and not any(each.role == LINK for each in evidence.fault_windows):
        return Verdict(NAME, Outcome.UNKNOWN, f"{silent[0]} does not say what it has carried")
    answered = [each for each in evidence.records if each.status == "OK" and each.source == "model"]
    ways = {each.request_id: [*_ways(evidence, each, document["zones"])] for each in answered}
    violations = [*_too_fast(answered, ways, document["delays"]), *_elsewhere(evidence, document)]
    crossed = sum(any(len(set(way)) > 1 for way in its) for its in ways.values())
    said = [each["figures"] for each in document["links"].values() if each["figures"] is not None]
    carried = sum(each[way] for each in said for way in ("bytes_there", "bytes_back"))
    summary = f"{crossed} of {len(answered)} answers crossed zones; links have carried {carried / 1e6:.1f} MB in all"
    if violations:
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} objections; {summary}", tuple(violations))
    return Verdict(NAME, Outcome.VALID if any(ways.values()) else Outcome.UNKNOWN, summary)


def _ways(evidence: Evidence, record: Record, zones: Mapping[str, str]) -> Iterator[list[str]]:
    """Yields the zones of all units that each attempt of a request has passed."""
    for each in evidence.attempts.get(record.request_id, ()):
        units = [record.caller, *(hop.unit for hop in hops_in(each.via)), each.replica]
        yield [zones[unit] for unit in units if unit in zones]


def _too_fast(
    answered: Sequence[Record], ways: Mapping[str, Sequence[Sequence[str]]], delays: Mapping[str, float]
) -> Iterator[Violation]:
    for record in answered:
        least_ms = min((_least_ms(way, delays) for way in ways[record.request_id]), default=0.0)
        took_ms = (record.done_ns - record.sent_ns) / _NS
        if took_ms < least_ms - CLOCK_MS:
            message = f"was answered in {took_ms:.3f} ms, though the links on its way take {least_ms:g} ms"
            yield Violation(NAME, record.sequence, record.request_id, message)


def _least_ms(way: Sequence[str], delays: Mapping[str, float]) -> float:
    """Time in which the links between these zones carry a request there and an answer back."""
    return sum(delays[f"{a} {b}"] + delays[f"{b} {a}"] for a, b in pairwise(way) if a != b)


def _elsewhere(evidence: Evidence, document: Mapping[str, Any]) -> Iterator[Violation]:
    """Yields clusters of which too many attempts came to another zone, where nothing was broken."""
    can, zones = evidence.abilities, document["zones"]
    last = can.between[-1] if can.between else ""
    if evidence.fault_windows or not can.follows_rules or last not in ("", "sidecar"):
        return
    here = document["callers"].get(evidence.caller, "")
    came: dict[str, Counter[str]] = {}
    for attempts in (evidence.attempts.get(record.request_id, ()) for record in evidence.records):
        for each in attempts:
            came.setdefault(cluster_of(each.replica), Counter())[zones.get(each.replica, "")] += 1
    for cluster, by_zone in sorted(came.items()):
        replicas = [zone for unit, zone in zones.items() if cluster_of(unit) == cluster]
        if (count := by_zone.total()) < LEAST or here not in replicas:
            continue
        share = 1.0
        if last:  # Envoy keeps the loads of zones even
            own, callers = replicas.count(here) / len(replicas), [*document["callers"].values()]
            share = min(1.0, own * len(callers) / callers.count(here))
        due = share * count
        if by_zone[here] < due - SIGMAS * sqrt(count * share * (1 - share)) - 1:
            message = f"{by_zone[here]} of {count} attempts at {cluster} came to zone {here}, of which {due:.0f} should"
            yield Violation(NAME, 0, "", message)


CHECKER = Checker(
    name=NAME,
    question="Did every request cross the links between its zones, and keep to its own zone where it should?",
    subject="a lab with links",
    blind="a link that is faster than it should, by less than the models' own time",
    gather=gather,
    check=check,
)
