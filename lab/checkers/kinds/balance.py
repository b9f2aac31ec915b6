"""Did every replica that could serve a version, and every unit on the way, get its share of the requests?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import floor, sqrt
from typing import TYPE_CHECKING, NamedTuple

from lab.checkers.checker import Checker
from lab.checkers.evidence import Evidence, cluster_of
from lab.checkers.kinds.path import hops_in
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation
from lab.links import ROLE as LINK
from lab.pickers import even_shares

if TYPE_CHECKING:
    from lab.checkers.evidence import Registration
    from lab.history import Record

NAME = "balance"

LEAST_EACH = 20
"""Attempts at a version for each replica that are enough to judge."""

LEAST_SHARE = 0.25
"""Of the share that the picker gives it. By chance one of two gets less in one of ten million periods."""

MOST_SHARE, SIGMAS = 1.25, 5
"""Of a share that the picker makes smaller than the others': at most so much of it, and so many standard deviations."""

LEAST_NS = 3_000_000_000
"""Time between the first and the last of these, as a replica may load a version later than its peers."""


JOINED_NS = 5_000_000_000
"""Time from a replica's registration until requests surely reach it, also on a busy machine."""


_ROUNDING = 1e-6
MODEL = "model"
"""Role of all replicas, as the target of a fault."""


class _Place(NamedTuple):
    """A version in a cluster."""

    routing_key: str
    cluster: str


class _Member(NamedTuple):
    """A replica that could receive requests from some time on, Unix nanoseconds, and can say which it did."""

    name: str
    since_ns: int


def check(evidence: Evidence) -> Verdict | None:
    """Counts the attempts that replicas received, by version and cluster.

    Judged are the replicas that were registered when the run ended, and that could say what they received: from the
    run's begin on, or from :data:`JOINED_NS` after they were registered, where requests follow the rules. One that a
    marked fault hit is judged from the time on at which it must be as before: the kind of the fault says how long after
    it was undone, and an ejection may last for longer. At each version of which their cluster then received enough
    attempts for :data:`LEAST_EACH` of them to be a replica's share, within :data:`LEAST_NS` or more, it must have
    received :data:`LEAST_SHARE` of the share that the lab's picker gives it; where attempts failed or the table has a
    slow start, one attempt, as a proxy may have left a replica for its failures, or begun with it late. A replica to
    which a picker gives less than others may have received :data:`MOST_SHARE` of that, and :data:`SIGMAS` standard
    deviations, where no request was tried twice.
    A unit on the way takes turns over all that passes it: a replica that has its share of these, requests of other runs
    included, is not too short of this run's.
    A picker that is skewed on purpose has no share to give: *picks* judges its picks.
    Several units of a role between caller and model, such as gateways, must each have passed on :data:`LEAST_SHARE` of
    an even share of all attempts.

    Returns:
        Invalid with a violation for each replica and version, and for each unit; unknown if the lab's picker is not.
        None without such a version in a cluster of several replicas and without such units, or if nobody asked models
        what they received, which other checkers say.
    """
    arrived_ns, failed, repeated, last = _received(evidence)
    members, shares = _members(evidence), evidence.shares or even_shares
    slow_start = any("slow_start" in rules.settings for rules in evidence.timeline.rules)
    judged: set[_Place] = set()
    violations: list[Violation] = []
    for place, by_replica in sorted(arrived_ns.items()) if not evidence.skewed else ():
        if place.cluster in evidence.split_clusters:  # the zone comes first, see the checker of links
            continue
        its_members = members.get(place.cluster, ())
        for member in its_members:
            since = {name: [at_ns for at_ns in its if at_ns >= member.since_ns] for name, its in by_replica.items()}
            times_ns = [at_ns for its in since.values() for at_ns in its]
            present = [each.name for each in its_members if each.since_ns <= member.since_ns]
            # Which replica a picker prefers is not known: the one that received most should have the greatest share.
            present.sort(key=lambda name: -len(since.get(name, ())))
            share = sorted(shares(len(present)), reverse=True)[present.index(member.name)]
            enough = len(present) > 1 and len(times_ns) * share >= LEAST_EACH - _ROUNDING
            if not enough or max(times_ns) - min(times_ns) < LEAST_NS:
                continue
            judged.add(place)
            count = len(since.get(member.name, ()))
            due, uncertain = len(times_ns) * share, slow_start or place in failed
            most = MOST_SHARE * due + SIGMAS * sqrt(due)
            may_be_more = uncertain or place in repeated or share * len(present) > 1 - _ROUNDING
            too_few = count < (1 if uncertain else LEAST_SHARE * due) and not _has_turns(evidence, place, member, share)
            if too_few or (count > most and not may_be_more):
                message = f"{member.name} received {count} of {len(times_ns)} attempts at {place.routing_key}"
                message += f", though {place.cluster} has {len(present)} replicas"
                if abs(share * len(present) - 1) > _ROUNDING:
                    message += f" and the picker gives it {100 * share:.3g} % of them"
                violations.append(Violation(NAME, last[place].sequence, last[place].request_id, message))
    between = _between(evidence)
    violations = [*(violations if evidence.shares else ()), *(each for its in between.values() for each in its)]
    if violations:
        shares_are = "share is" if len(violations) == 1 else "shares are"
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} {shares_are} wrong", tuple(violations))
    if judged and evidence.shares is None:
        return Verdict(NAME, Outcome.UNKNOWN, "the lab's picker is not known here; name its plugin file")
    versions = f"{len(judged)} version{'' if len(judged) == 1 else 's'}"
    shown = [f"every replica received its share of the attempts at {versions}"] if judged else []
    shown += [f"every {role} its share of the requests" for role in between]
    return Verdict(NAME, Outcome.VALID, ", and ".join(shown)) if shown else None


def _has_turns(evidence: Evidence, place: _Place, member: _Member, share: float) -> bool:
    """Whether a replica has its share of all that the run's units on the way sent, which others' requests pass, too.

    They take turns over all of them: of two equal runs at the same time, each may always get the same replica.
    """
    own = (each for record in evidence.records for each in evidence.attempts.get(record.request_id, ()))
    passed = {hop[:2] for each in own for hop in hops_in(each.via)}  # role and unit
    counts = Counter(
        each.replica
        for its in evidence.attempts.values()
        for each in its
        if (each.routing_key, cluster_of(each.replica)) == place
        and each.arrived_ns >= member.since_ns
        and any(hop[:2] in passed for hop in hops_in(each.via))
    )
    return counts[member.name] >= max(1, LEAST_SHARE * share * counts.total())


def _between(evidence: Evidence) -> dict[str, list[Violation]]:
    """Returns the units between caller and model that passed on too few attempts, for each role that can be judged.

    Its units must be known, several, and hit by no marked fault, nor a link to them; clients give them turns.
    """
    judged: dict[str, list[Violation]] = {}
    hit = {each.target for each in evidence.fault_windows} | {each.role for each in evidence.fault_windows}
    for role in evidence.abilities.between if evidence.abilities.takes_turns else ():
        units = evidence.path_units.get(role, ())
        if len(units) < 2 or hit & {role, LINK, *units}:  # noqa: PLR2004 (one has all)
            continue
        passed = [
            (record, each.arrived_ns, hop.unit)
            for record in evidence.records
            for each in evidence.attempts.get(record.request_id, ())
            for hop in hops_in(each.via)
            if hop.role == role
        ]
        times_ns = [arrived_ns for _, arrived_ns, _ in passed]
        if len(passed) < LEAST_EACH * len(units) or max(times_ns) - min(times_ns) < LEAST_NS:
            continue
        counts, last = Counter(unit for _, _, unit in passed), passed[-1][0]
        judged[role] = [
            Violation(
                *(NAME, last.sequence, last.request_id),
                f"{unit} passed on {counts[unit]} of {len(passed)} attempts, though there are {len(units)} of its role",
            )
            for unit in units
            if counts[unit] < LEAST_SHARE * len(passed) / len(units)
        ]
    return judged


def _received(
    evidence: Evidence,
) -> tuple[Mapping[_Place, Mapping[str, Sequence[int]]], set[_Place], set[_Place], Mapping[_Place, Record]]:
    """Returns when attempts arrived, by place and replica.

    Then come the places where one failed, those where a request was tried twice, and the last record of each.
    """
    arrived_ns: defaultdict[_Place, defaultdict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    failed: set[_Place] = set()
    repeated: set[_Place] = set()
    last: dict[_Place, Record] = {}
    place_of: dict[tuple[str, str], _Place] = {}
    for record in evidence.records:
        for each in evidence.attempts.get(record.request_id, ()):
            unit = each.routing_key, each.replica
            place = place_of.get(unit) or place_of.setdefault(unit, _Place(unit[0], cluster_of(each.replica)))
            arrived_ns[place][each.replica].append(each.arrived_ns)
            if last.get(place) is record:
                repeated.add(place)
            last[place] = record
            if each.status != "OK":
                failed.add(place)
    return arrived_ns, failed, repeated, last


def _members(evidence: Evidence) -> dict[str, list[_Member]]:
    """Returns the replicas to be judged, by cluster."""
    begin_ns = min((record.sent_ns for record in evidence.records), default=0)
    end_ns = max((record.done_ns for record in evidence.records), default=0)
    ejection_s = _ejection_s(evidence)
    members: defaultdict[str, list[_Member]] = defaultdict(list)
    for each in evidence.registrations.replicas if evidence.registrations else ():
        stays = each.until_ns is None or each.until_ns >= end_ns
        came_later = each.from_ns > begin_ns
        since_ns = _back_ns(each, evidence, ejection_s)
        if stays and since_ns is not None and (evidence.abilities.follows_rules or not came_later):
            joined_ns = each.from_ns + JOINED_NS if came_later else begin_ns
            members[each.cluster].append(_Member(each.replica, max(joined_ns, since_ns)))
    return {cluster: sorted(each) for cluster, each in members.items()}


def _back_ns(registration: Registration, evidence: Evidence, ejection_s: float) -> int | None:
    """Returns from when on a replica must be as before all faults and gaps; None if it need not be at all."""
    targets = {registration.replica, registration.cluster, MODEL}
    faults = [each for each in evidence.fault_windows if each.target in targets]
    first_ns = min((each.from_ns for each in faults), default=0)
    gaps = [each.until_ns for each in evidence.arrival_gaps if each.replica == registration.replica]
    back_ns = [
        *(each.over_ns and each.over_ns + _ejected_ns((each.until_ns or 0) - first_ns, ejection_s) for each in faults),
        *(until_ns and until_ns + JOINED_NS for until_ns in gaps),
    ]
    known = [each for each in back_ns if each is not None]
    return max(known, default=0) if len(known) == len(back_ns) else None


def _ejection_s(evidence: Evidence) -> float:
    """Returns the longest first ejection of a replica by any table and use case of the run, seconds."""
    of_use_case = {each.use_case: each for each in evidence.records}
    return max(
        (rules.policy(each).out_s for rules in evidence.timeline.rules for each in of_use_case.values()), default=0.0
    )


def _ejected_ns(lasted_ns: int, ejection_s: float) -> int:
    """Returns how long after a fault its replica may stay ejected: Envoy ejects for longer each time.

    The n-th ejection lasts n times as long as the first. As many have ended before as fit into the faults until then.
    """
    if not ejection_s:
        return 0
    fit = (sqrt(1 + 8 * lasted_ns / 1e9 / ejection_s) - 1) / 2
    return round((floor(fit) + 1) * ejection_s * 1e9)


CHECKER = Checker(
    name=NAME,
    question="Did every replica that could serve a version, and every unit on the way, get its share of the requests?",
    blind=f"a replica that gets at least {LEAST_SHARE:.0%} of its share, and no more than others; shares of less "
    f"than {LEAST_EACH} attempts each; who gets which replica, where several send through one unit",
    subject="20 attempts for each of several replicas, or of several units of one role",
    claim=Claim.AVAILABILITY,
    check=check,
)
