"""Was each request answered, without a fallback, unless the rules, a limit or a marked fault says why not?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.coverage import LEAST_EXPECTED, too_little
from lab.checkers.plain_policy import FALLS_BACK
from lab.checkers.quota_use import refused_too_early
from lab.checkers.revision_timeline import Rules, by_model
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation
from lab.history import UNSENT, Record

if TYPE_CHECKING:
    from lab.checkers.evidence import Abilities, Evidence, FaultWindow

NAME = "answered"

FAILOVER_NS = 5_000_000_000
"""Time until a cluster whose replicas are gone or silent is left for its failover cluster, or is used again."""

FROZEN_NS = 10_000_000_000
"""Time until a frozen replica or gateway is left for others: pings show it within five seconds, later if they wait."""

OF_CALLERS = frozenset(("INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED", "UNAUTHENTICATED", "OUT_OF_RANGE"))
"""Statuses that blame the request, which no fault can make wrong."""

_SHOWN = 3
_UNEXPLAINED = "no marked fault reaches it, and nothing in the table explains it"


def check(evidence: Evidence) -> Verdict:
    """Judges every request that got no answer from a model, or a fallback's.

    A refusal that a revision in force expects, and ``RESOURCE_EXHAUSTED`` where its table has a limit for the tenant
    or the use case that the topology follows, are explained; not so a refusal for a limit whose share was not used up,
    see :func:`lab.checkers.quota_use.refused_too_early`. So is what another checker's own evidence explains, such as a
    refusal by a model or a gateway whose queue was full, also if a fallback answered then. Any other failure, and a
    caller's own default answer, is

    - a violation while no fault is marked that reaches it, until some time after it was undone, see
      :meth:`lab.checkers.evidence.FaultWindow.met`: a fault of a model cluster reaches requests for its versions only,
      any other fault all requests; one that slows replicas, or lets them answer with a status, explains no other
      failures, and none explains a status of :data:`OF_CALLERS`; that one of several replicas or gateways was killed
      or frozen reaches none that is sent later by more than :data:`FAILOVER_NS` or :data:`FROZEN_NS`;
    - a violation if the table promises recovery from the marked fault: the cluster of the chosen version was hit, and a
      fallback's was not, or, :data:`FAILOVER_NS` after the fault began, its failover cluster was not;
      nothing is promised for a stream of which items had come;
    - else counted by fault.

    A fallback's answer means that the chosen version failed: it is a violation while no fault reaches it, unless the
    table limits that version's requests and the limit may have been reached. A failover cluster's answer means that no
    replica of the version's own cluster can answer: it is a violation if no fault of that cluster or of a unit between
    goes on or was undone less than :data:`FAILOVER_NS` ago, and all its replicas are registered. An ejected replica may
    stay out for longer.

    With an objective (``availability_slo``), the share of answers among answers and failures must reach it in the run
    and in each use case.

    Returns:
        Invalid with any violation; unknown if nothing was answered, or refused as the rules say, and if the run met too
        little of what it was to cover: see :func:`lab.checkers.coverage.too_little`, and a fallback that no request
        took while all replicas of the chosen version's cluster were dead.
    """
    last_sent_ns = max((record.sent_ns for record in evidence.records), default=0)
    counts: Counter[str] = Counter()
    failures: defaultdict[str, list[Record]] = defaultdict(list)
    answers: Counter[str] = Counter()
    excused: Counter[str] = Counter()
    violations: list[Violation] = []
    answered: list[Record] = []
    may_be_limited = any(each.status == "RESOURCE_EXHAUSTED" or each.source == "fallback" for each in evidence.records)
    early = refused_too_early(evidence, fallbacks=True) if may_be_limited else {}
    may_leave = any(rules.has_failover for rules in evidence.timeline.rules)
    for record in evidence.records:
        kind, is_early = _kind(record, evidence, last_sent_ns), record.sequence in early
        if kind == "explained" and is_early and record.request_id not in evidence.explained:
            kind = "failed"
        counts[kind] += 1
        if kind in {"answered", "explained"}:
            answered.append(record)
            answers[record.use_case] += kind == "answered"
            if record.source == "fallback" and not _may_fall_back(record, evidence, limited=not is_early):
                violations.append(_violation(record, f"{record.use_case} answered by a fallback; {_UNEXPLAINED}"))
            elif may_leave and (home := _left_without_reason(record, evidence)):
                message = f"{record.use_case} answered by {record.cluster}, which is for when {home} cannot answer"
                violations.append(_violation(record, f"{message}; {_UNEXPLAINED}"))
        elif kind == "failed":
            failures[record.use_case].append(record)
            met, reasons = _met(record, evidence)
            if message := early.get(record.sequence) or _objection(record, met, reasons, evidence):
                violations.append(_violation(record, message))
            else:
                excused[reasons[0].clause] += 1
    if evidence.availability_slo is not None:
        violations += _below(evidence.availability_slo, answers, failures, {each.sequence for each in violations})
    missed = [*too_little(evidence, answered), *_untaken(evidence)]
    return _verdict(counts, excused, violations, missed)


def _kind(record: Record, evidence: Evidence, last_sent_ns: int) -> str:
    if record.status == "OK" and record.source != "default":
        return "answered"
    if record.status == UNSENT:
        return "unsent"
    if record.status == "CANCELLED" and (record.done_ns >= last_sent_ns or evidence.paced_by):
        return (
            "cut off"  # in flight when the driver was stopped, or its page was given up: the checker `page` judges it
        )
    return (
        "explained"
        if record.request_id in evidence.explained
        or any(_explains(rules, record, evidence) for rules in evidence.timeline.during(record))
        else "failed"
    )


def _explains(rules: Rules, record: Record, evidence: Evidence) -> bool:
    if record.status == "RESOURCE_EXHAUSTED":
        return evidence.limits(rules, record)
    expected = rules.expected(record).status
    return expected not in {"OK", ""} and record.status == expected


def _may_fall_back(record: Record, evidence: Evidence, *, limited: bool) -> bool:
    """Whether something explains that a fallback answered; ``limited``: a share of a limit may have been used up."""
    rules = evidence.timeline.during(record)
    if record.request_id in evidence.explained or (limited and any(evidence.limits(each, record) for each in rules)):
        return True
    reasons = _met(record, evidence)[1]
    if any(each.may_end_with(FALLS_BACK) for each in reasons):
        return True
    # What is only slow is left when its time is over or it has been ejected.
    limited = any(each.policy(record).per_try_s for each in rules)
    return bool(reasons) and (limited or _all_may_be_out(record, rules, evidence))


def _left_without_reason(record: Record, evidence: Evidence) -> str:
    """Returns the cluster that could have answered itself when its failover cluster did; empty if there is none."""
    rules = evidence.timeline.during(record) if evidence.abilities.follows_rules and by_model(record) else []
    homes = {each.home(record.model, record.version, each.shard(record)): each for each in rules}
    left = [(home, each) for home, each in homes.items() if record.cluster == each.failover(home)]
    if record.cluster in homes or any(_may_be_left(home, each, record, evidence) for home, each in left):
        return ""
    return left[0][0] if left else ""


def _may_be_left(home: str, rules: Rules, record: Record, evidence: Evidence) -> bool:
    """Whether a replica of a cluster may not have been able to answer; one that was ejected stays out for a while."""
    out_ns = FAILOVER_NS + round(rules.policy(record).out_s * 1e9)
    lately = (
        each
        for each in evidence.fault_windows
        if each.from_ns <= record.done_ns and (each.until_ns is None or record.sent_ns <= each.until_ns + out_ns)
    )
    if evidence.registrations is None or any(_reaches(each, home, rules) for each in lately):
        return True
    return len(evidence.settled(home, record.sent_ns, record.done_ns)) < rules.replicas(home)


def _met(record: Record, evidence: Evidence) -> tuple[list[FaultWindow], list[FaultWindow]]:
    """Returns what a request met, and of that what may make it fail: a fault of another model's cluster must not."""
    met = [each for each in evidence.fault_windows if each.met(record)]
    rules = evidence.timeline.during(record) if met and evidence.abilities.follows_rules else []

    def explains(each: FaultWindow) -> bool:
        return any(
            _reaches(each, one.expected(record).cluster, one)
            and not _is_left(each, met, record, one, evidence.abilities)
            for one in rules
        )

    if not rules:
        return met, met
    return met, list(filter(explains, met)) if _may_end_so(record, met, rules, evidence) else []


def _may_end_so(record: Record, met: Sequence[FaultWindow], rules: Sequence[Rules], evidence: Evidence) -> bool:
    """Whether what a request met explains its status; if all replicas may have been taken out, any but a caller's."""
    if record.status in OF_CALLERS:
        return False
    if record.status == "OK":
        return True
    return _all_may_be_out(record, rules, evidence) or any(each.may_end_with({record.status}) for each in met)


def _all_may_be_out(record: Record, rules: Sequence[Rules], evidence: Evidence) -> bool:
    """Whether all replicas of a version that a request may reach may have been ejected."""
    return any(
        each.policy(record).may_take_out_all(len(evidence.settled(version.cluster, record.sent_ns, record.done_ns)))
        for each in rules
        for version in (each.expected(record), *each.fallbacks(record))
    )


def _reaches(fault_window: FaultWindow, cluster: str, rules: Rules) -> bool:
    """Whether it hit this model cluster, or a unit that all requests may need; of no cluster, only the latter."""
    return (bool(cluster) and fault_window.hits(cluster)) or not any(map(fault_window.hits, rules.clusters))


def _is_left(
    fault_window: FaultWindow, met: Sequence[FaultWindow], record: Record, rules: Rules, abilities: Abilities
) -> bool:
    """Whether a dead or frozen replica or gateway has been left for others by the time that a request was sent."""
    left_ns = FAILOVER_NS if fault_window.kills else FROZEN_NS
    if not (fault_window.kills or fault_window.freezes) or record.sent_ns <= fault_window.from_ns + left_ns:
        return False
    if fault_window.until_ns is not None and record.sent_ns > fault_window.until_ns:
        return False  # it comes back
    cluster = next(filter(fault_window.hits, rules.clusters), "")
    if cluster:
        dead, all_of_them = {each.target for each in met if each.hits(cluster)}, rules.replicas(cluster)
        return cluster not in dead and len(dead) < all_of_them
    dead = {each.target for each in met if each.role == fault_window.role}
    return fault_window.role in abilities.between and len(dead) < abilities.limiters


def _objection(record: Record, met: Sequence[FaultWindow], reasons: Sequence[FaultWindow], evidence: Evidence) -> str:
    """Returns the objection to a failure, empty if a fault explains it."""
    if record.status == "OK":
        failure = f"{record.use_case} answered by the caller's own default"
    else:
        failure = f"{record.use_case} failed with {record.status} ({record.message[:80]!r})"
    if not reasons:
        return f"{failure}; {_UNEXPLAINED}"
    fails_over = evidence.abilities.fails_over
    promises = (_promise(each, record, met, fails_over=fails_over) for each in evidence.timeline.during(record))
    promise = next(filter(None, promises), "")
    return f"{failure} while {reasons[0].clause}; {promise}" if promise else ""


def _promise(rules: Rules, record: Record, met: Sequence[FaultWindow], *, fails_over: bool) -> str:
    """Returns how the table promises recovery from what a request met; empty if it does not."""
    chosen = rules.expected(record)
    since = [each.from_ns for each in met if each.hits(chosen.cluster)]
    if chosen.status != "OK" or not since or record.status not in FALLS_BACK or record.items:
        return ""
    for other in rules.fallbacks(record):
        if not any(each.hits(other.cluster) for each in met):
            return f"the table promises the fallback {other.model}@{other.version} on {other.cluster}"
    backup = rules.failover(chosen.cluster) if fails_over else ""
    if backup and record.sent_ns > min(since) + FAILOVER_NS and not any(each.hits(backup) for each in met):
        return f"the table promises that {backup} takes over from {chosen.cluster}"
    return ""


def _violation(record: Record, message: str) -> Violation:
    return Violation(NAME, record.sequence, record.request_id, message)


def _below(
    slo: float, answers: Counter[str], failures: dict[str, list[Record]], known: set[int]
) -> Iterable[Violation]:
    """Yields the failures of each use case below the objective; those of all use cases if the whole run is."""
    all_failed = sum(map(len, failures.values()))
    whole = _share(answers.total(), all_failed)
    for use_case, failed in failures.items():
        own = _share(answers[use_case], len(failed))
        missed = f"{use_case}: {own:.3%}" if own < slo else f"the run: {whole:.3%}" if whole < slo else ""
        for record in failed:
            if missed and record.sequence not in known:
                message = f"{record.use_case} failed with {record.status}; {missed} answered, {slo:.3%} asked for"
                yield _violation(record, message)


def _share(answered: int, failed: int) -> float:
    return answered / (answered + failed)


def _untaken(evidence: Evidence) -> Iterable[str]:
    """Yields the fallbacks that no request took although the chosen version's cluster was dead."""
    kills = [each for each in evidence.fault_windows if each.kills]
    due: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    for record in evidence.records if kills else ():
        rules = evidence.timeline.alone(record)
        if rules is None or not rules.fallbacks(record):
            continue
        chosen = rules.expected(record)
        if not rules.failover(chosen.cluster) and _is_dead(chosen.cluster, rules, record, kills):
            edge = f"fallback from {chosen.model}@{chosen.version} of {record.use_case}"
            due[edge] += 1
            taken[edge] += record.source == "fallback"
    for edge, count in due.items():
        if count >= LEAST_EXPECTED and not taken[edge]:
            yield f"{edge}: none of {count} requests took it while {edge.split()[2]} was dead"


def _is_dead(cluster: str, rules: Rules, record: Record, kills: Iterable[FaultWindow]) -> bool:
    """Whether all replicas of a cluster were dead from before the request was sent until after its end."""
    lasting = (
        each for each in kills if each.from_ns <= record.sent_ns and record.done_ns <= (each.until_ns or record.done_ns)
    )
    targets = {each.target for each in lasting if each.hits(cluster)}
    return cluster in targets or len(targets) >= rules.replicas(cluster)


def _verdict(
    counts: Counter[str], excused: Counter[str], violations: Sequence[Violation], missed: Sequence[str]
) -> Verdict:
    summary = f"{counts['answered']} answered, {counts['failed']} failed"
    for kind, words in (
        ("explained", "refused as the table says"),
        ("cut off", "cut off by the driver's stop"),
        ("unsent", "not sent"),
    ):
        if counts[kind]:
            summary += f", {counts[kind]} {words}"
    if excused:
        summary += "; " + ", ".join(f"{count} failed while {text}" for text, count in excused.most_common(_SHOWN))
    if violations:
        in_order = tuple(sorted(violations, key=lambda one: one.sequence))
        summary = f"{len(in_order)} failed or fell back without a reason; {summary}"
        return Verdict(NAME, Outcome.INVALID, summary, in_order)
    if not counts["answered"] and not counts["explained"]:
        return Verdict(NAME, Outcome.UNKNOWN, f"nothing was answered; {summary}")
    if missed:
        more = f" and {len(missed) - _SHOWN} more" if len(missed) > _SHOWN else ""
        return Verdict(NAME, Outcome.UNKNOWN, f"met too little: {'; '.join(missed[:_SHOWN])}{more}; {summary}")
    return Verdict(NAME, Outcome.VALID, summary)


CHECKER = Checker(
    name=NAME,
    question="Was each request answered, without a fallback, unless the rules, a limit or a marked fault says why not?",
    blind="failures that a marked fault or a limit could explain, whatever caused them",
    claim=Claim.AVAILABILITY,
    check=check,
)
