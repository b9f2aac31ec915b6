"""Draws a topology with the traffic that passed through it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc

from lab.history import UNSENT, Record, read_parquet
from lab.plugins.workshop.figures import Figure, show
from lab.plugins.workshop.flow import Edge, Flow, Node
from lab.plugins.workshop.watch import ProbeResult
from lab.report.palette import topology_style
from lab.roles import ROLES, Placement
from lab.runs import RunResult
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from lab.plugins.workshop.session import WorkshopLab

Request: TypeAlias = Record | ProbeResult

_NS = 1e9
_OK = "OK"


def topology_picture(
    lab: WorkshopLab, requests: Iterable[Request] | RunResult, topology: str, *, last_s: float | None = None
) -> Figure:
    """A picture of who called whom on one topology, and how often; units that do not run are marked.

    Args:
        lab: a lab that is up.
        requests: the requests, or the run that they belong to.
        topology: whose.
        last_s: draws only those that ended in the last ``last_s`` seconds; None for all.
    """
    every: Iterable[Request] = records_of(requests) if isinstance(requests, RunResult) else requests
    found = recent([each for each in every if each.topology == topology and each.status != UNSENT], last_s)
    states = {unit.name: (unit.role, unit.state) for unit in lab.status().units}
    flow = flow_of(found, topology, states, lab.route_table())
    when = "" if last_s is None else f" of the last {last_s:g} s"
    return show(flow, f"Numbers are requests{when}, where they arrive; {len(found):,} in all.")


def records_of(run: RunResult) -> list[Record]:
    """The history of a run."""
    return read_parquet(run.folder / "history.parquet")


def refused_percent(run: RunResult) -> float:
    """Share of a run's requests that a limit refused, in percent: a late answer is not a refusal."""
    refused = run.summary.by_status.get(grpc.StatusCode.RESOURCE_EXHAUSTED.name, 0)
    return 100 * refused / max(1, run.summary.planned)


def recent(requests: Sequence[Request], last_s: float | None) -> Sequence[Request]:
    """The requests that ended within ``last_s`` seconds before the last of all."""
    if last_s is None or not requests:
        return requests
    since = max(each.done_ns for each in requests) - last_s * _NS
    return [each for each in requests if each.done_ns >= since]


def flow_of(
    requests: Sequence[Request], topology: str, units: Mapping[str, tuple[str, str]], document: Mapping[str, Any]
) -> Flow:
    """The picture; ``units`` has each unit's role and state, ``document`` the clusters of the versions."""
    callers = [name for name, (role, _) in units.items() if role == "caller"]
    middles = {caller: _middle(topology, caller) for caller in callers}
    answered = Counter((each.caller, each.cluster) for each in requests if each.status == _OK)
    failed = Counter(each.caller for each in requests if each.status != _OK)
    return Flow(
        title=f"Topology {topology}",
        columns=[
            [Node(name) for name in callers],
            *([_middle_nodes(topology, middles, units)] if any(middles.values()) else []),
            list(_clusters(units, document)),
        ],
        edges=list(_edges(middles, answered, failed, [*document.get("clusters", {})])),
        style=topology_style(topology),
    )


def _middle(topology: str, caller: str) -> str:
    """Unit beside a caller, or role of the shared units, that its requests pass first; empty if there is none."""
    role = next(iter(TOPOLOGIES[topology].between), "")
    return f"{caller}-{role}" if role and _is_beside(role) else role


def _is_beside(role: str) -> bool:
    return ROLES[role].placement is Placement.BESIDE_CALLER


def _middle_nodes(topology: str, middles: Mapping[str, str], units: Mapping[str, tuple[str, str]]) -> list[Node]:
    role = TOPOLOGIES[topology].between[0]
    if _is_beside(role):
        return [
            Node(name, [_how(units, f"{caller}-resolver", "with its resolver")], _is_down(units, [name]))
            for caller, name in middles.items()
        ]
    members = [name for name, (its, _) in units.items() if its == role]
    notes = [_how(units, name, name) for name in members] if members != [role] else ["one for all"]
    return [Node(role, notes, _is_down(units, members))]


def _clusters(units: Mapping[str, tuple[str, str]], document: Mapping[str, Any]) -> Iterable[Node]:
    for cluster in document.get("clusters", {}):
        held = [
            f"{model} {' '.join(own)}"
            for model, entry in document["models"].items()
            if (own := [version for version, each in entry["versions"].items() if each["cluster"] == cluster])
        ]
        members = [name for name, (role, _) in units.items() if role == "model" and name.startswith(f"{cluster}-")]
        yield Node(cluster, held or ["empty"], _is_down(units, members))


def _edges(
    middles: Mapping[str, str],
    answered: Mapping[tuple[str, str], int],
    failed: Mapping[str, int],
    clusters: Sequence[str],
) -> Iterable[Edge]:
    through: Counter[tuple[str, str]] = Counter()
    for caller, middle in middles.items():
        own = {cluster: count for (who, cluster), count in answered.items() if who == caller}
        if middle:
            yield Edge(caller, middle, sum(own.values()), failed.get(caller, 0))
        for cluster, count in own.items():
            through[middle or caller, cluster] += count
        if not middle and failed.get(caller):
            # Where they went is unknown: draw them to this caller's first cluster, or to the first of all.
            through.setdefault((caller, next(iter(own), clusters[0])), 0)
    for (start, end), count in through.items():
        lost = 0 if any(start == middle for middle in middles.values()) else _lost(start, end, through, failed)
        yield Edge(start, end, count, lost)


def _lost(start: str, end: str, through: Mapping[tuple[str, str], int], failed: Mapping[str, int]) -> int:
    """Failures of a caller without anybody in between are drawn once, on its first line."""
    return failed.get(start, 0) if end == next(other for who, other in through if who == start) else 0


def _how(units: Mapping[str, tuple[str, str]], unit: str, words: str) -> str:
    state = units.get(unit, ("", ""))[1]
    return words if state in ("running", "") else f"✗ {unit}: {state}"


def _is_down(units: Mapping[str, tuple[str, str]], members: Sequence[str]) -> bool:
    return bool(members) and all(units[name][1] != "running" for name in members)
