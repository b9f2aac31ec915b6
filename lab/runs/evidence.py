"""Gathers the evidence of a run from its folder, as the checkers take it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lab.checkers import Abilities, ArrivalGap, Evidence, FaultWindow, RequestMix, RevisionInForce
from lab.checkers.evidence import cluster_of
from lab.checkers.plain_schedule import is_planned, planned_requests, planned_run
from lab.checkers.revision_timeline import SETTLING_NS
from lab.links import LinksSpec
from lab.pickers import DEFAULT_PICKER, ENVOY, GRPC_XDS, PICKERS
from lab.roles import MODEL, ROLES
from lab.routing.headers import OF_CLIENT, OF_GRPC
from lab.runs.events import fault_windows
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from lab.checkers import Registrations
    from lab.checkers.plain_schedule import PlannedRun
    from lab.client.admin_values import RevisionInfo
    from lab.history import Record
    from lab.history.arrivals import Arrival, ArrivalCoverage
    from lab.load.plan import LoadPlan
    from lab.runs.folder import RunFolder
    from lab.topologies import Topology


def evidence_of(
    run: RunFolder, records: Sequence[Record] | None = None, revisions: Sequence[RevisionInForce] | None = None
) -> Evidence:
    """Returns the evidence in a run's folder.

    Args:
        run: its folder.
        records: its history, which saves reading it again.
        revisions: that were in force, where the folder does not have them.

    Raises:
        RunError: a file is missing or cannot be read.
    """
    plan, planned, spec, window, driver = run.plan, planned_in(run), run.spec, run.window, run.driver
    events = fault_windows(run.events, TOPOLOGIES.get(plan.topology), plan.caller)
    arrivals = run.arrivals
    registrations, dropped = run.registrations, run.dropped
    gaps = gaps_in(arrivals.coverage, events, window.from_ns, registrations) if arrivals else []
    records = run.history if records is None else records
    picker = spec.get("picker", DEFAULT_PICKER)
    return Evidence(
        records=records,
        revisions=_as_published(revisions_in_force(run.revisions), run.published) if revisions is None else revisions,
        planned=driver.planned if planned is None else len(planned.requests),
        offered_rate=None if planned is None else planned.offered_rps,
        plan=planned,
        probes=run.probes,
        closed_loop=plan.engine.closed_loop,
        paced_by=plan.engine.paced_by,
        copies=run.copies if arrivals is None else _copies(arrivals.requests, records, gaps),
        shares=PICKERS[picker].shares if picker in PICKERS else None,
        skewed=picker in PICKERS and PICKERS[picker].skewed,
        split_clusters=_split_clusters(plan, spec, registrations),
        receipt_keys=run.receipt_keys or {"": str(spec.get("receipt_key", ""))},
        topology=plan.topology,
        caller=plan.caller,
        timeout_s=plan.timeout_s,
        window_ns=(window.from_ns, window.until_ns) if window.until_ns else None,
        registrations=registrations,
        request_mix=_asks(plan),
        fault_windows=events,
        faults_elsewhere=[each for each in fault_windows(run.events) if each not in events],
        abilities=abilities_of(plan, spec),
        arrivals=arrivals.requests if arrivals else None,
        arrival_gaps=gaps,
        path_units=run.path_units,
        questions=run.questions,
        drivers=driver.drivers,
        stopped=driver.stopped,
        missing="; ".join(f"{name} could not be saved: {why}" for name, why in run.missing.items()),
        clock_jump=window.clock_jump,
        one_clock=bool(window.one_clock),
        gathered=run.gathered,
        id_prefix=plan.id_prefix,
        announced=run.announced,
        expected=run.expected,
        asked_for=run.asked,
        plan_document=run.plan_document,
        copies_dropped={**dropped, "the driver": driver.copies_dropped} if dropped is not None else None,
    )


def _split_clusters(plan: LoadPlan, spec: Mapping[str, Any], registrations: Registrations | None) -> frozenset[str]:
    """Returns clusters with replicas in several zones, where the topology's proxy or library prefers its own zone."""
    topology = TOPOLOGIES.get(plan.topology)
    if not spec.get("links") or topology is None or topology.picker_place not in (ENVOY, GRPC_XDS):
        return frozenset()
    links, zones = LinksSpec.model_validate(spec["links"]), defaultdict[str, set[str]](set)
    for each in registrations.replicas if registrations else ():
        zones[each.cluster].add(links.zone_of((each.replica, each.cluster, MODEL)))
    return frozenset(cluster for cluster, its in zones.items() if len(its) > 1)


def planned_in(run: RunFolder) -> PlannedRun | None:
    """Returns what a run is to send; None if nothing plans it. Until it is saved, checkers compute it from the plan."""
    plan = run.plan_document
    if "engine" not in plan:  # it is from before plans named their engine
        plan["engine"] = run.plan.engine.to_document()
    if not is_planned(plan):
        return None
    saved = run.planned
    return planned_run(plan, list(planned_requests(plan, run.trace)) if saved is None else saved)


def abilities_of(plan: LoadPlan, spec: Mapping[str, Any]) -> Abilities:
    """Returns what a plan's topology does, by its own description; nothing if it is not known here."""
    topology = TOPOLOGIES.get(plan.topology)
    if topology is None:
        return Abilities()
    can, leases = topology.capabilities, spec.get("leases", {})
    return Abilities(
        follows_rules=bool(can.follows_rules),
        fails_over=bool(can.failover),
        reports=topology.reports,
        retries=bool(can.retries),
        budgets_retries=bool(can.retry_budget),
        limits_attempts=bool(can.per_try_timeout),
        hedges=bool(can.hedging),
        budgets_hedges=bool(can.hedge_budget),
        ejects=bool(can.ejection_in_a_row),
        breaks=bool(can.circuit_breaker),
        limits_rates=bool(can.tenant_rates),
        limits_concurrency=bool(can.tenant_concurrency),
        limiters=max((len(plan.endpoints.by_role.get(role, ())) for role in topology.between), default=0) or 1,
        between=topology.between,
        takes_turns=topology.takes_turns,
        marks_path=all(ROLES[role].marks_path for role in topology.between),
        reads_payload=bool(can.reads_payload),
        asks=topology.asks,
        leases=bool(can.leases),
        lease_s=leases.get("ttl_s", 0.0),
        stale_s=leases.get("max_stale_s", 0.0),
        deadlines=bool(can.deadlines),
        headers=_headers(topology),
        proves_callers=spec.get("security", {}).get("mode") == "mtls",
    )


def _headers(topology: Topology) -> frozenset[str] | None:
    """Returns the names of the headers with which requests may come to models; None if a role does not say."""
    names = OF_GRPC | OF_CLIENT
    for role in (ROLES[each] for each in topology.between):
        if role.adds_headers is None:
            return None
        names = (names if role.passes_headers else OF_GRPC) | role.adds_headers
    return names


def gaps_in(
    coverage: Mapping[str, ArrivalCoverage],
    events: Sequence[FaultWindow],
    from_ns: int,
    registrations: Registrations | None = None,
) -> list[ArrivalGap]:
    """Returns the replicas that cannot say what they received during the whole run, which began at ``from_ns``.

    A replica whose process began during the run had received nothing before, unless it was killed or replaced, as
    marked or as its registration shows.
    """
    gaps = []
    for name, said in coverage.items():
        if said.gaps is not None:
            reason = "has lost the last that it received before it ended"
            gaps += [ArrivalGap(name, until_ns, reason, since_ns) for since_ns, until_ns in said.gaps]
        elif said.known_from_ns is None:
            gaps += [ArrivalGap(name, None, said.error)] if said.error else []
        elif said.known_from_ns > max(from_ns, said.began_ns):
            gaps.append(ArrivalGap(name, said.known_from_ns, "has dropped what it received first"))
        elif said.known_from_ns > from_ns and (
            any(each.target in {name, cluster_of(name)} for each in events)
            or any(
                each.replica == name and each.from_ns < said.began_ns
                for each in (registrations.replicas if registrations else ())
            )
        ):
            reason = "has lost what it received before it was started again"
            gaps.append(ArrivalGap(name, said.known_from_ns, reason))
    return gaps


def _copies(
    arrivals: Sequence[Arrival], records: Sequence[Record], gaps: Sequence[ArrivalGap]
) -> dict[str, list[tuple[str, str]]] | None:
    """Returns the shadow copies of these requests that were accepted, by routing key; None if nobody can say."""
    if any(not each.from_ns for each in gaps):
        return None
    requests = {record.request_id for record in records}
    copies: dict[str, list[tuple[str, str]]] = {}
    for each in arrivals:
        if each.is_copy and each.status != "FAILED_PRECONDITION" and each.request_id in requests:
            copies.setdefault(each.routing_key, []).append((each.request_id, each.received))
    return copies


def _as_published(
    revisions: Sequence[RevisionInForce], published: Mapping[int, Mapping[str, Any]]
) -> list[RevisionInForce]:
    """Returns the revisions with the tables as published, where their text is known."""
    return [
        replace(each, document=published[each.revision], kept=each.document) if each.revision in published else each
        for each in revisions
    ]


def _asks(plan: LoadPlan) -> RequestMix | None:
    """Returns the mix that a plan draws; None if its engine does not ask as drawn."""
    if not plan.engine.as_drawn:
        return None
    return RequestMix(
        use_cases=[use_case.name for use_case in plan.use_cases],
        caller=plan.caller,
        users=plan.users,
        contexts=plan.contexts,
        traffic_origin=plan.traffic_origin,
        edge_every=plan.edge_every,
        edge_cases=[(case.use_case, case.context) for case in plan.edge_cases],
    )


def revisions_in_force(revisions: Sequence[RevisionInfo]) -> list[RevisionInForce]:
    """Returns the revisions with the time in which answers by each are right.

    It begins when the revision's models are loaded and it goes out to nodes. It ends, after a settling time, when all
    nodes have converged on its successor, or when it has been rolled back. A revision for all callers has one for all
    as its successor: :meth:`lab.checkers.revision_timeline.RevisionTimeline.of` sees to the callers of a stage.
    """
    result = []
    for index, revision in enumerate(revisions):
        times = revision.times
        if "loaded" not in times:
            continue  # no node has received it
        # A staged one leaves the one for all in force.
        after = (each for each in revisions[index + 1 :] if revision.callers or not each.callers)
        later = (at for each in after if (at := each.times.get("converged")) is not None)
        until = times["failed"] if "failed" in times else next(later, None)
        settled = None if until is None else until + SETTLING_NS
        document: Any = revision.document
        converged, callers = times.get("converged"), frozenset(revision.callers)
        result.append(
            RevisionInForce(revision.revision, document, times["loaded"], settled, converged, callers=callers)
        )
    return result
