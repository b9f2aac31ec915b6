"""Gathers the evidence of a run from its folder, as the checkers take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.checkers import Abilities, ArrivalGap, Driver, Evidence, FaultWindow, RequestMix, RevisionInForce
from lab.checkers.evidence import cluster_of
from lab.errors import RunError
from lab.history import Record, read_parquet
from lab.history.arrivals import Arrival, ArrivalCoverage, read_arrivals
from lab.pickers import DEFAULT_PICKER, PICKERS
from lab.roles import ROLES
from lab.runs.clock import jump_in_words
from lab.runs.events import fault_windows, run_events
from lab.runs.folder import (
    ARRIVALS,
    COPIES,
    DRIVER,
    HISTORY,
    MISSING,
    REVISIONS,
    WINDOW,
    parsed,
    read_json,
    spec_in,
)
from lab.runs.planned import planned_in
from lab.runs.probing import probes_in
from lab.runs.published import published_in
from lab.runs.registrations import registrations_in
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from lab.load.plan import LoadPlan

# A node acknowledges a revision on its main thread; Envoy's workers, and requests in flight there, switch a moment
# later. For this time, an answer by the previous revision is right.
SETTLING_NS = 100_000_000


def evidence_of(folder: Path, plan: LoadPlan, records: Sequence[Record] | None = None) -> Evidence:
    """Returns the evidence in a run's folder. ``records`` saves reading the history again.

    Raises:
        RunError: a file is missing or cannot be read.
    """
    events = fault_windows(run_events(folder), TOPOLOGIES.get(plan.topology), plan.caller)
    from_ns, until_ns, jump_ns = _window_in(folder)
    window = (from_ns, until_ns) if until_ns else None
    arrivals, arrival_gaps = arrivals_in(folder, events, window)
    records = read_parquet(folder / HISTORY) if records is None else records
    copies = copies_in(folder) if arrivals is None else None if arrival_gaps else _copies(arrivals, records)
    planned, spec = planned_in(folder), spec_in(folder)
    picker = spec.get("picker", DEFAULT_PICKER)
    return Evidence(
        records=records,
        revisions=_as_published(_revisions_of(folder), published_in(folder)),
        planned=_count_of_driver(folder) if planned is None else len(planned.requests),
        offered_rate=None if planned is None else planned.offered_rps,
        plan=planned,
        probes=probes_in(folder),
        closed_loop=plan.engine.closed_loop,
        copies=copies,
        shares=PICKERS[picker].shares if picker in PICKERS else None,
        receipt_key=str(spec.get("receipt_key", "")),
        topology=plan.topology,
        caller=plan.caller,
        timeout_s=plan.timeout_s,
        window_ns=window,
        registrations=registrations_in(folder),
        request_mix=_asks(plan),
        fault_windows=events,
        abilities=abilities_of(plan, spec),
        arrivals=arrivals,
        arrival_gaps=arrival_gaps,
        drivers=drivers_in(folder),
        missing=missing_in(folder),
        clock_jump=jump_in_words(jump_ns, until_ns - from_ns),
    )


def missing_in(folder: Path) -> str:
    """Returns why some evidence of a run could not be saved, in words; empty if all was.

    Raises:
        RunError: the file holds something else.
    """
    path = folder / MISSING
    if not path.exists():
        return ""
    return parsed(path, lambda found: _in_words(dict(found)), "no list of missing evidence; restore the file")


def _in_words(missing: Mapping[str, str]) -> str:
    return "; ".join(f"{name} could not be saved: {why}" for name, why in missing.items())


def _revisions_of(folder: Path) -> list[RevisionInForce]:
    return parsed(folder / REVISIONS, revisions_in_force, "no list of revisions; name the folder of a finished run")


def abilities_of(plan: LoadPlan, spec: Mapping[str, Any]) -> Abilities:
    """Returns what a plan's topology does, by its own description; nothing if it is not known here."""
    topology = TOPOLOGIES.get(plan.topology)
    if topology is None:
        return Abilities()
    can = topology.capabilities
    return Abilities(
        follows_rules=bool(can.follows_rules),
        fails_over=bool(can.failover),
        reports_attempts=bool(can.attempts_reported),
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
        marks_path=all(ROLES[role].marks_path for role in topology.between),
        proves_callers=spec.get("security", {}).get("mode") == "mtls",
    )


def arrivals_in(
    folder: Path, events: Sequence[FaultWindow], window_ns: tuple[int, int] | None
) -> tuple[list[Arrival] | None, list[ArrivalGap]]:
    """Returns what replicas received, and which cannot say it of the whole run; None if they were not asked.

    A replica whose process began during the run had none before, unless it was killed or replaced.

    Raises:
        RunError: the file holds something else.
    """
    if not (folder / ARRIVALS).exists():
        return None, []
    arrivals, heard = read_arrivals(folder / ARRIVALS)
    from_ns = 0 if window_ns is None else window_ns[0]
    return arrivals, [each for name, said in heard.items() if (each := _unheard(name, said, events, from_ns))]


def _unheard(name: str, said: ArrivalCoverage, events: Sequence[FaultWindow], from_ns: int) -> ArrivalGap | None:
    if said.known_from_ns is None:
        return ArrivalGap(name, None, said.error)
    if said.known_from_ns <= from_ns:
        return None
    if said.known_from_ns > said.began_ns:
        return ArrivalGap(name, said.known_from_ns, "has dropped what it received first")
    if any(each.target in {name, cluster_of(name)} for each in events):
        return ArrivalGap(name, said.known_from_ns, "has lost what it received before it was started again")
    return None


def _copies(arrivals: Sequence[Arrival], records: Sequence[Record]) -> dict[str, list[tuple[str, str]]]:
    """Returns the shadow copies of these requests that were accepted, by routing key."""
    requests = {record.request_id for record in records}
    copies: dict[str, list[tuple[str, str]]] = {}
    for each in arrivals:
        if each.is_copy and each.status != "FAILED_PRECONDITION" and each.request_id in requests:
            copies.setdefault(each.routing_key, []).append((each.request_id, each.received))
    return copies


def _window_in(folder: Path) -> tuple[int, int, int]:
    """Returns when a run began and ended and by how much the clock jumped, nanoseconds; zeros where not recorded.

    Raises:
        RunError: the file holds something else.
    """
    path = folder / WINDOW
    if not path.exists():
        return 0, 0, 0
    return parsed(
        path,
        lambda found: (int(found["from_ns"]), int(found["until_ns"]), int(found.get("clock_jump_ns", 0))),
        "no beginning and end of a run; name the folder of a finished run",
    )


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


def _count_of_driver(folder: Path) -> int:
    """Returns how many requests came due by the driver's count; 0 if it left no summary."""
    path = folder / DRIVER
    if not path.exists():
        return 0
    return parsed(
        path, lambda found: int(found["planned"]), "no summary of a driver; name the folder of a finished run"
    )


def drivers_in(folder: Path) -> list[Driver]:
    """Returns what the coordinator of several drivers has reported on each; none for a run of one.

    Raises:
        RunError: the file holds something else.
    """
    path = folder / DRIVER
    if not path.exists():
        return []
    names = [each.name for each in fields(Driver)]
    return parsed(
        path,
        lambda found: [Driver(**{name: each[name] for name in names}) for each in found.get("drivers", ())],
        "no summary of a driver; name the folder of a finished run",
    )


def copies_in(folder: Path) -> Mapping[str, Sequence[tuple[str, str]]] | None:
    """Returns request id and receipt of each shadow copy that replicas received, by routing key.

    None without the file: the replicas were not asked. Older files have no receipts, which are empty then.

    Raises:
        RunError: the file holds something else.
    """
    path = folder / COPIES
    if not path.exists():
        return None
    found = read_json(path)
    try:
        return {key: [_copy(each) for each in _list(copies)] for key, copies in found.items()}
    except (AttributeError, TypeError):
        raise RunError(f"{path}: no lists of copies by routing key; restore the file, or remove it") from None


def _list(copies: object) -> list[object]:
    if not isinstance(copies, list):
        raise TypeError(f"{copies!r} is no list")
    return copies


def _copy(entry: object) -> tuple[str, str]:
    match entry:
        case str():
            return entry, ""
        case [str(request_id), str(receipt)]:
            return request_id, receipt
        case _:
            raise TypeError(f"{entry!r} is no copy")


def revisions_in_force(revisions: Sequence[dict[str, Any]]) -> list[RevisionInForce]:
    """Returns the revisions with the time in which answers by each are right.

    It begins when the revision's models are loaded and it goes out to nodes. It ends, after a settling time, when all
    nodes have converged on its successor, or when it has been rolled back.
    """
    steps = [{step["phase"]: step["at_ns"] for step in each["steps"]} for each in revisions]
    result = []
    for index, (revision, its_steps) in enumerate(zip(revisions, steps, strict=True)):
        if "loaded" not in its_steps:
            continue  # no node has received it
        later = (following["converged"] for following in steps[index + 1 :] if "converged" in following)
        until = its_steps["failed"] if "failed" in its_steps else next(later, None)
        result.append(
            RevisionInForce(
                revision["revision"],
                revision["document"],
                its_steps["loaded"],
                None if until is None else until + SETTLING_NS,
                its_steps.get("converged"),
            )
        )
    return result
