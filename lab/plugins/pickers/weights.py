"""The checker ``weights``: where weights come from the load that replicas report, did each get its share by them?"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import exp, inf, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

from lab.checkers import Checker, Claim, Outcome, Verdict, Violation
from lab.checkers.evidence import cluster_of
from lab.checkers.kinds.path import hops_in
from lab.pickers import ENVOY
from lab.plugins.pickers.orca_weights import PICKER
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from lab.checkers import Evidence
    from lab.history.arrivals import Arrival
    from lab.runs import RunContext

NAME = "weights"

REPORTED_S = 2.0
"""Time after which a request counts for 1/e in what a replica reports."""

BEGINS_NS = 4_000_000_000
"""Time until a client surely has reports of all replicas that count: a blackout of 1 s, an update after 0.5 s."""

LAG_NS = 2_000_000_000
"""A weight in force is of a report that is at most so old."""

KNOWN_WITHIN = 0.25
"""Of all requests: how far a replica's least and greatest due share may be apart. After the machine has stalled they
are further, and any share would do."""

LEAST_EACH = 20
"""Attempts for each replica that are enough to judge."""

TOLERANCE, SIGMAS = 1.25, 3
"""Of a due share: at most so much of it, at least the inverse, and so many standard deviations of a draw. Turns with
weights vary less than draws."""

_STEP_NS = 250_000_000
_Place = tuple[str, str]
"""A routing key and a cluster."""


class _Share(NamedTuple):
    """What a replica received, and the least and the most that is due to it."""

    came: int
    least: float
    most: float


class _Reports:
    """What a replica has reported: its weight, requests in a second of service time, after each answer."""

    def __init__(self, answered: Sequence[Arrival]) -> None:
        self._ended_ns: list[int] = []
        self._weights: list[float] = []
        requests = busy_ns = 0.0
        for each in sorted(answered, key=lambda arrival: arrival.ended_ns):
            before_ns = self._ended_ns[-1] if self._ended_ns else each.ended_ns
            kept = exp((before_ns - each.ended_ns) / 1e9 / REPORTED_S)
            requests, busy_ns = requests * kept + 1, busy_ns * kept + each.ended_ns - each.arrived_ns
            self._ended_ns.append(each.ended_ns)
            self._weights.append(1e9 * requests / max(busy_ns, 1))

    def between(self, from_ns: int, until_ns: int) -> Sequence[float]:
        """The weights of a time, with the one in force when it begins."""
        first = max(bisect_right(self._ended_ns, from_ns) - 1, 0)
        return self._weights[first : bisect_right(self._ended_ns, until_ns)]


def gather(context: RunContext) -> dict[str, Any] | None:
    """Returns the topologies whose Envoy or gRPC client goes by the weights; None in a lab with another picker."""
    spec = context.state.spec
    if spec.picker != PICKER.name:
        return None
    places = {name: TOPOLOGIES[name] for name in spec.topologies}
    return {"topologies": [name for name, its in places.items() if its.picker_place == ENVOY or not its.between]}


def check(evidence: Evidence) -> Verdict | None:
    """Compares what replicas received with shares by weights computed from how long they took.

    A replica reports requests and utilisation, both decaying over :data:`REPORTED_S`, so that its weight (gRFC A58:
    rate by utilisation) is the inverse of its mean service time. At any time a client goes by a report of the last
    :data:`LAG_NS`; one without any has the others' mean. Judged are attempts from :data:`BEGINS_NS` after the run's
    begin on, while the replicas of their cluster were the same, and answered, for as long, and while the due shares of
    each are known within :data:`KNOWN_WITHIN`. Each replica must have received between the least and the most that
    these weights give it, with :data:`TOLERANCE` and :data:`SIGMAS` standard deviations. Where several send through
    one Envoy, the requests of all count.

    Returns:
        None if weights do not decide on the run's path, or if no cluster has several replicas. Unknown with less than
        :data:`LEAST_EACH` attempts for each replica, if connections may have been closed on purpose, or if it is not
        known what models received.
    """
    gathered = evidence.gathered.get(NAME)
    if gathered is None or evidence.topology not in gathered["topologies"]:
        return None
    if (doubt := _doubt(evidence)) is not None:
        return Verdict(NAME, Outcome.UNKNOWN, doubt) if doubt else None
    judged = {
        place: found
        for place, found in _shares(evidence).items()
        if len(found) > 1 and sum(each.came for each in found.values()) >= LEAST_EACH * len(found)
    }
    if not judged:
        return Verdict(
            NAME,
            Outcome.UNKNOWN,
            f"less than {LEAST_EACH} attempts for each replica while its weight decided, and was known",
        )
    last = max(evidence.records, key=lambda each: each.sent_ns)
    violations = tuple(
        Violation(NAME, last.sequence, last.request_id, message)
        for place, found in sorted(judged.items())
        for message in _objections(place, found)
    )
    attempts = sum(each.came for found in judged.values() for each in found.values())
    summary = f"{attempts} attempts, {_spread(judged):.2g} times as many due to one replica as to another"
    if violations:
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} shares not by the weights; {summary}", violations)
    return Verdict(NAME, Outcome.VALID, summary)


def _doubt(evidence: Evidence) -> str | None:
    """Returns why shares say nothing of the weights, empty if no cluster has several replicas; None if they do."""
    if evidence.arrivals is None or evidence.registrations is None or evidence.registrations.gap_ns:
        return "it is not known what replicas there were, and what they received"
    replicas = Counter(
        cluster for cluster, _ in {(each.cluster, each.replica) for each in evidence.registrations.replicas}
    )
    mine = [each for record in evidence.records for each in evidence.attempts.get(record.request_id, ())]
    if all(replicas[cluster_of(each.replica)] < 2 for each in mine):  # noqa: PLR2004 (one has all)
        return ""
    closed = [each for each in evidence.fault_windows if each.closes]
    return f"connections may have been closed: {closed[0].text}" if closed else None


def _objections(place: _Place, found: Mapping[str, _Share]) -> Iterator[str]:
    total = sum(each.came for each in found.values())
    for replica, share in sorted(found.items()):
        margin = SIGMAS * sqrt(share.most)
        if share.came > share.most * TOLERANCE + margin or share.came < share.least / TOLERANCE - margin:
            due = f"{share.least:.0f} to {share.most:.0f}"
            yield f"{replica} received {share.came} of {total} attempts at {place[0]}, and its weights give it {due}"


def _spread(judged: Mapping[_Place, Mapping[str, _Share]]) -> float:
    dues = [sorted(each.least + each.most for each in found.values()) for found in judged.values()]
    return max(its[-1] / max(its[0], 1e-9) for its in dues)


def _shares(evidence: Evidence) -> dict[_Place, dict[str, _Share]]:
    """Returns what each replica received while weights decided, and what was due, by place."""
    answered: defaultdict[str, list[Arrival]] = defaultdict(list)
    failed_ns: defaultdict[str, list[int]] = defaultdict(list)
    for each in evidence.arrivals or ():
        if each.status == "OK":
            answered[each.replica].append(each)
        elif each.status:
            failed_ns[cluster_of(each.replica)].append(each.ended_ns)
    reports = {replica: _Reports(its) for replica, its in answered.items()}
    counts: defaultdict[tuple[_Place, int], defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    begin_ns = min((each.sent_ns for each in evidence.records), default=0) + BEGINS_NS
    for each in _sent_alike(evidence):
        if each.arrived_ns >= begin_ns:
            place = each.routing_key, cluster_of(each.replica)
            counts[place, (each.arrived_ns - begin_ns) // _STEP_NS][each.replica] += 1
    shares: defaultdict[_Place, defaultdict[str, _Share]] = defaultdict(lambda: defaultdict(lambda: _Share(0, 0, 0)))
    for (place, step), came in counts.items():
        until_ns = begin_ns + (step + 1) * _STEP_NS
        members = _members(evidence, place[1], until_ns)
        failed = any(until_ns - BEGINS_NS < each < until_ns for each in failed_ns[place[1]])
        if failed or place[1] in evidence.split_clusters or not came.keys() <= members:
            continue
        due = _due(*_bounds(reports, members, until_ns))
        if any(high - low > KNOWN_WITHIN for low, high in due.values()):
            continue
        total = sum(came.values())
        for name, (low, high) in due.items():
            before = shares[place][name]
            shares[place][name] = _Share(
                before.came + came[name], before.least + total * low, before.most + total * high
            )
    return {place: dict(found) for place, found in shares.items()}


def _due(least: Mapping[str, float], most: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Returns the least and the greatest share of each replica by the weights that it may have."""
    others_most = {name: sum(most.values()) - most[name] for name in most}
    others_least = {name: sum(least.values()) - least[name] for name in least}
    return {
        name: (least[name] / (least[name] + others_most[name]), most[name] / (most[name] + others_least[name]))
        for name in least
    }


def _bounds(
    reports: Mapping[str, _Reports], members: set[str], until_ns: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the least and the greatest weight that each replica may have in the step that ends then."""
    from_ns = until_ns - _STEP_NS - LAG_NS
    known = {name: its for name in members if name in reports and (its := reports[name].between(from_ns, until_ns))}
    least = min((min(its) for its in known.values()), default=1.0)
    most = max((max(its) for its in known.values()), default=1.0)
    lowest = {name: min(known[name]) if name in known else least for name in members}
    return lowest, {name: max(known[name]) if name in known else most for name in members}


def _sent_alike(evidence: Evidence) -> Iterator[Arrival]:
    """Yields the attempts of the run, and those of others through the same units."""
    own = {each.request_id for each in evidence.records}
    units = {hop[:2] for name in own for each in evidence.attempts.get(name, ()) for hop in hops_in(each.via)}
    for name, its in evidence.attempts.items():
        for each in its:
            if name in own or any(hop[:2] in units for hop in hops_in(each.via)):
                yield each


def _members(evidence: Evidence, cluster: str, until_ns: int) -> set[str]:
    """Returns a cluster's replicas, if they were the same for :data:`BEGINS_NS` before a time; else none."""
    from_ns = until_ns - BEGINS_NS
    there = [
        each
        for each in (evidence.registrations.replicas if evidence.registrations else ())
        if each.cluster == cluster and (each.until_ns or inf) > from_ns and each.from_ns < until_ns
    ]
    stayed = all(each.from_ns <= from_ns and (each.until_ns or inf) >= until_ns for each in there)
    return {each.replica for each in there} if stayed else set()


CHECKER = Checker(
    name=NAME,
    question="Did each replica get its share by the load that replicas report, where Envoy or gRPC goes by it?",
    subject="the picker `orca-weights`",
    blind="weights that differ by a quarter or less, the first 4 s of a run, and the seconds after the machine stalled",
    claim=Claim.AVAILABILITY,
    gather=gather,
    check=check,
)
