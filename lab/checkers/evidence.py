"""The evidence of a run: records, plan, and the time in which each route table was in force."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from lab.checkers.plain_models import sender_of
from lab.checkers.revision_timeline import RevisionInForce, RevisionTimeline, Rules
from lab.pickers import even_shares

if TYPE_CHECKING:
    from lab.checkers.plain_policy import Quota
    from lab.checkers.plain_schedule import PlannedRun
    from lab.history import Record
    from lab.history.arrivals import Arrival
    from lab.history.questions import Questions

RECOVERY_NS = 2_000_000_000
"""Time after a fault in which clients, then proxies, connect again, each after half a second at most."""

CLOCKS_NS = 5_000_000
"""How far the driver's clock may be from those of the replicas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestMix:
    """The mix of requests that a run's plan draws, each field by itself and uniformly.

    Attributes:
        use_cases: listed several times for more weight.
        caller: of all requests.
        users: their ids are ``u0`` to ``u<users - 1>``.
        contexts: choices by context field, repeated for more weight.
        traffic_origin: unless ``contexts`` says otherwise.
        edge_every: one request in this many is not drawn, but the next of the edge cases; 0 for none.
        edge_cases: use case, and the fields that replace the drawn ones.
    """

    use_cases: Sequence[str]
    caller: str
    users: int
    contexts: Mapping[str, tuple[str, ...]]
    traffic_origin: str
    edge_every: int = 0
    edge_cases: Sequence[tuple[str, Mapping[str, str]]] = ()

    def draws(self, record: Record) -> bool:
        """Whether the use case, user and context of this request are drawn; not so of an edge case."""
        return not self.edge_cases or not self.edge_every or (record.sequence + 1) % self.edge_every > 0


@dataclass(frozen=True, slots=True)
class Registration:
    """The time in which a replica was registered, Unix nanoseconds; ``until_ns`` is None if it still was at the end."""

    cluster: str
    replica: str
    from_ns: int
    until_ns: int | None


@dataclass(frozen=True, slots=True)
class Registrations:
    """The registrations of model replicas, as the control plane knows them.

    Attributes:
        replicas: one or more for each replica.
        gap_ns: the time of which it does not know all, from and until, Unix nanoseconds; None if there is none.
    """

    replicas: Sequence[Registration]
    gap_ns: tuple[int, int] | None = None


class FaultEffect(NamedTuple):
    """What a fault does to each of its units while it is surely at work. Without a time and a share: it is dead.

    Attributes:
        units: names of those that it hit.
        from_ns: when it had been injected, Unix nanoseconds.
        until_ns: when undoing it began, Unix nanoseconds.
        adds_ms: to the time in which a replica serves at least half of its requests, milliseconds.
        fails_share: of the requests of a replica, with ``INTERNAL``, 0 to 1.
    """

    units: Sequence[str]
    from_ns: int
    until_ns: int
    adds_ms: float = 0.0
    fails_share: float = 0.0


@dataclass(frozen=True, slots=True)
class FaultWindow:
    """A fault, or another operation that breaks something, as marked while the run went on.

    Attributes:
        text: in words, e.g. ``ml-cluster-1-a killed``.
        target: unit, cluster or role that it hit.
        from_ns: Unix nanoseconds.
        until_ns: when it was undone, Unix nanoseconds; None if it was not.
        kills: whether its target cannot answer at all meanwhile.
        freezes: whether its target answers nothing meanwhile, and its connections stay open.
        statuses: names of those with which its target then fails requests; empty for any, also by closed connections.
        role: of the unit that it hit; empty if that is not known.
        recovers_ns: time after ``until_ns`` in which its target is as before, by its kind; None if that is not known.
        effect: what models must show of it; None if that is not known.
    """

    text: str
    target: str
    from_ns: int
    until_ns: int | None
    kills: bool = False
    freezes: bool = False
    statuses: frozenset[str] = frozenset()
    role: str = ""
    recovers_ns: int | None = None
    effect: FaultEffect | None = None

    @property
    def over_ns(self) -> int | None:
        """When its target must be as before, Unix nanoseconds; None if it was not undone, or that is not known."""
        return None if self.until_ns is None or self.recovers_ns is None else self.until_ns + self.recovers_ns

    @property
    def clause(self) -> str:
        """After *while*: ``ml-cluster-1-a was killed``."""
        return f"{self.target} was{self.text.removeprefix(self.target)}"

    @property
    def closes(self) -> bool:
        """Whether it may close connections with requests in flight."""
        return not self.statuses

    def may_end_with(self, statuses: Collection[str]) -> bool:
        """Whether requests may fail with one of these statuses for it."""
        return not self.statuses or not self.statuses.isdisjoint(statuses)

    def met(self, record: Record) -> bool:
        """Whether a request was in flight meanwhile, or until :data:`RECOVERY_NS` after it was undone.

        A unit that was killed also has the time in which its kind promises that it serves again: it starts first.
        """
        starts_ns = self.recovers_ns or 0 if self.kills else 0
        return record.done_ns >= self.from_ns and (
            self.until_ns is None or record.sent_ns <= self.until_ns + max(RECOVERY_NS, starts_ns)
        )

    def hits(self, cluster: str) -> bool:
        """Whether it hit this cluster or a replica of it."""
        return cluster in {self.target, cluster_of(self.target)}


@dataclass(frozen=True, slots=True)
class ArrivalGap:
    """A replica that cannot say what it received during the whole run: what only it could show is unknown.

    Attributes:
        until_ns: it knows what came later, Unix nanoseconds; None if it could not be asked at all.
        reason: in words.
        from_ns: it knows what came earlier, Unix nanoseconds; 0 if it does not.
    """

    replica: str
    until_ns: int | None
    reason: str
    from_ns: int = 0

    def hides(self, record: Record, *, for_ns: int = CLOCKS_NS) -> bool:
        """Whether it may hide what the replica received of a request, until ``for_ns`` before and after it."""
        return record.done_ns >= self.from_ns - for_ns and (
            self.until_ns is None or record.sent_ns < self.until_ns + for_ns
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What the run's topology does, by its own description.

    Attributes:
        follows_rules: whether requests are routed by the route table in force.
        fails_over: whether it uses the failover clusters that the table names.
        reports: fields of a record that the caller learns from the path.
        retries: whether it retries failed attempts.
        budgets_retries: whether it bounds retries by the table's budget.
        limits_attempts: whether it ends an attempt at its own time limit.
        hedges: whether it starts a second attempt beside a slow first one.
        budgets_hedges: whether it bounds all hedges by it.
        ejects: whether a unit between caller and model leaves a replica alone that fails several times in a row.
        breaks: whether it bounds the attempts in flight at a version.
        limits_rates: whether it limits the rates of tenants.
        limits_concurrency: whether it limits their requests in flight.
        limiters: replicas of the unit that limits and retries, among which a tenant's limits are divided.
        between: roles of the units between caller and model.
        takes_turns: whether requests go to several of those units of one role in turn.
        marks_path: whether each of those units adds itself to the header ``via``.
        reads_payload: whether one of them parses the payload.
        asks: roles of the units that decide, and never see the payload.
        leases: whether the caller reuses their decisions, for ``lease_s`` seconds, and for ``stale_s`` if they cannot
            be reached.
        deadlines: whether models learn how much time is left.
        headers: names of the headers with which requests may come to models; None if they are not known.
        proves_callers: whether the limiter knows who asks: then each caller has quotas of its own.
    """

    follows_rules: bool = True
    fails_over: bool = False
    reports: Collection[str] = ()
    retries: bool = False
    budgets_retries: bool = False
    limits_attempts: bool = False
    hedges: bool = False
    budgets_hedges: bool = False
    ejects: bool = False
    breaks: bool = False
    limits_rates: bool = False
    limits_concurrency: bool = False
    limiters: int = 1
    between: Sequence[str] = ()
    takes_turns: bool = True
    marks_path: bool = False
    reads_payload: bool = False
    asks: Sequence[str] = ()
    leases: bool = False
    lease_s: float = 0.0
    stale_s: float = 0.0
    deadlines: bool = False
    headers: Collection[str] | None = None
    proves_callers: bool = False


class ProbeAnswer(NamedTuple):
    """A node's answer to a probe, a resolver's or a gateway's; times are Unix nanoseconds.

    Attributes:
        unit: that answered.
        revision: of the decision.
    """

    unit: str
    asked_ns: int
    answered_ns: int
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """One of several drivers of a run, as the process that coordinated them saw it; times of its clock against that's.

    Attributes:
        name: with its process, container or pod.
        clock_ms: how far its Unix clock was ahead; None if it was not measured.
        clock_error_ms: how far its times may be off, besides the drift.
        drift_ms: how far its clock ran ahead during the run; None if it was lost before the end.
        silent_s: the longest time without a report.
        problem: why its share is not complete; empty if it is.
    """

    name: str
    clock_ms: float | None
    clock_error_ms: float | None
    drift_ms: float | None
    silent_s: float
    problem: str


class MissingEvidenceError(Exception):
    """A checker needs evidence that could not be saved; says why."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The evidence of one run.

    Attributes:
        records: one a request, in any order.
        revisions: all that were in force at any time during the run.
        planned: number of planned requests; without a schedule, the number that came due by the driver's count.
        offered_rate: of the plan, requests per second; None without a schedule (interactive or closed-loop load).
        closed_loop: whether simulated users waited for an answer before their next request.
        paced_by: what else decided when requests were sent, in words; empty if nothing did.
        schedule_delay_bound_ms: bound of the 99th percentile of the schedule delay (sent minus intended); above it,
            latencies show the driver's slowness.
        copies: request id and receipt of each shadow copy that model replicas received, by routing key; the receipt is
            empty where a replica gives none. None if the replicas were not asked.
        topology: of all requests, by the plan; empty if the plan names none.
        caller: of all requests, likewise.
        timeout_s: of a request, by the plan, seconds; None if it is not known.
        window_ns: when the run began and ended, Unix nanoseconds; None if it is not known.
        registrations: of model replicas; None if the control plane was not asked.
        request_mix: that was planned; None if something else than the plan's mix decides what is asked.
        fault_windows: that were marked before or during the run, of what its requests need.
        faults_elsewhere: the same of what they do not need.
        abilities: of the topology.
        arrivals: what model replicas received during the run, other callers' requests included; None if they were not
            asked.
        arrival_gaps: the replicas that cannot say all of it.
        path_units: names of the units that the run's requests may pass or ask, by role; empty if they are not known.
        questions: that resolvers were asked during the run; None if that is not known.
        availability_slo: share of requests that must be answered, 0 to 1, of the run and of each use case; None without
            such an objective.
        plan: the requests that were to be sent, computed without the driver's code; None if nothing planned them.
        probes: answers of the nodes that follow the rules, to the lab's own questions.
        shares: the replicas' expected shares of a version's requests, given how many there are; None if the lab's
            picker is not known.
        skewed: whether the lab's picker gives replicas different shares on purpose, by what is asked.
        split_clusters: clusters with replicas in several zones, of a topology that prefers a caller's own zone.
        receipt_keys: of the receipts that replicas gave, by sender, see :mod:`lab.checkers.plain_models`; that of an
            empty one is for all others, as in runs before 1.3.
        drivers: that shared the requests, if there were several.
        stopped: whether a person or program stopped the driver before the end of its schedule.
        gathered: by checkers with their own evidence, by their names; see :attr:`Checker.gather`.
        explained: ids of requests whose failure, also at the version chosen first alone, a checker's own evidence
            explains; see :attr:`Checker.explains`.
        copies_dropped: shadow copies that units say that they did not send, as too many were in flight; None of one
            that cannot say. None altogether if that was not recorded.
        id_prefix: of the ids of this run's requests, by the plan; empty if the driver chose it.
        announced: prefixes of ids of what models received, and who had announced each; None if nobody was asked to.
        asked_for: options and words that asked for the run, see :mod:`lab.runs.asked`; None if nobody kept them.
        plan_document: the driver's plan, as it was given to it.
        expected: checkers that must give a verdict by what the run's topology, lab and options declare, and why, in
            words.
        missing: why some evidence could not be saved when the run ended, in words; empty if all is there. The revisions
            are not known then.
        clock_jump: by how much the driver's clock was stepped during the run and what that means, in words; empty if it
            was not.
        one_clock: whether all processes of the lab read one clock, which no step of the wall clock affects.
    """

    records: Sequence[Record]
    revisions: Sequence[RevisionInForce]
    planned: int
    offered_rate: float | None
    closed_loop: bool = False
    paced_by: str = ""
    schedule_delay_bound_ms: float = 5.0
    copies: Mapping[str, Sequence[tuple[str, str]]] | None = None
    topology: str = ""
    caller: str = ""
    timeout_s: float | None = None
    window_ns: tuple[int, int] | None = None
    registrations: Registrations | None = None
    request_mix: RequestMix | None = None
    fault_windows: Sequence[FaultWindow] = ()
    faults_elsewhere: Sequence[FaultWindow] = ()
    abilities: Abilities = Abilities()
    arrivals: Sequence[Arrival] | None = None
    arrival_gaps: Sequence[ArrivalGap] = ()
    path_units: Mapping[str, Sequence[str]] = field(default_factory=dict)
    questions: Questions | None = None
    availability_slo: float | None = None
    plan: PlannedRun | None = None
    probes: Sequence[ProbeAnswer] = ()
    shares: Callable[[int], Sequence[float]] | None = even_shares
    skewed: bool = False
    split_clusters: frozenset[str] = frozenset()
    receipt_keys: Mapping[str, str] = field(default_factory=dict)
    drivers: Sequence[Driver] = ()
    stopped: bool = False
    gathered: Mapping[str, Any] = field(default_factory=dict)
    explained: Collection[str] = frozenset()
    copies_dropped: Mapping[str, int | None] | None = None
    id_prefix: str = ""
    announced: Mapping[str, str] | None = None
    asked_for: Mapping[str, Any] | None = None
    plan_document: Mapping[str, Any] = field(default_factory=dict)
    expected: Mapping[str, str] = field(default_factory=dict)
    missing: str = ""
    clock_jump: str = ""
    one_clock: bool = False

    @cached_property
    def timeline(self) -> RevisionTimeline:
        """The revisions by time; what it finds out about a request serves all checkers.

        Raises:
            MissingEvidenceError: they are not known.
        """
        if self.missing:
            raise MissingEvidenceError(self.missing)
        return RevisionTimeline(self.revisions)

    def receipt_key(self, request_id: str) -> str:
        """Returns the key of a request's receipts; empty if it is not known."""
        return self.receipt_keys.get(sender_of(request_id)) or self.receipt_keys.get("", "")

    @cached_property
    def copies_by_request(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """Routing key and receipt of each copy, by request id; one without an id is not of this run."""
        by_request: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
        for key, copies in (self.copies or {}).items():
            for request_id, receipt in copies:
                if request_id:
                    by_request[request_id].append((key, receipt))
        return by_request

    @cached_property
    def attempts(self) -> Mapping[str, Sequence[Arrival]]:
        """What model replicas received, copies left out, by request id.

        What has no id is of another client, and each its own request: a request of this run that was never sent
        has no id, either.
        """
        by_request: defaultdict[str, list[Arrival]] = defaultdict(list)
        for number, each in enumerate(self.arrivals or ()):
            if not each.is_copy:
                by_request[each.request_id or f"without id {number}"].append(each)
        return by_request

    def settled(self, cluster: str, from_ns: int, until_ns: int) -> set[str]:
        """Returns the replicas of a cluster that were registered from :data:`RECOVERY_NS` before a time to another."""
        return {
            each.replica
            for each in (self.registrations.replicas if self.registrations else ())
            if each.cluster == cluster
            and each.from_ns + RECOVERY_NS <= from_ns
            and (each.until_ns is None or each.until_ns > until_ns)
        }

    def limits(self, rules: Rules, record: Record) -> bool:
        """Whether the table limits a request in a way that the topology follows."""
        can = self.abilities
        followed = {"rate": can.limits_rates, "concurrent": can.limits_concurrency, "breaker": can.breaks}
        return any(followed[name] for name in rules.limits(record))

    def quota(self, rules: Rules, tenant: str) -> Quota | None:
        """Returns the quota by these rules of one caller's requests for a tenant; None if it has none."""
        can = self.abilities
        return rules.quota(tenant, limiters=can.limiters, proves_callers=can.proves_callers)


def prefix_of(request_id: str) -> str:
    """Returns what the ids of one sender begin with: ``1f3a.0`` of ``1f3a.0-0000002c``."""
    return request_id.rpartition("-")[0]


def cluster_of(replica: str) -> str:
    """Returns the cluster of a replica: ``ml-cluster-1`` of ``ml-cluster-1-a``."""
    return replica.rpartition("-")[0]
