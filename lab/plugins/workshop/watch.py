"""Probes every caller for a moment, through the caller services, to see which ones are answered."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import cycle
from typing import TYPE_CHECKING, NamedTuple

from lab.clock import lab_time_ns
from lab.errors import CallError
from lab.roles import CONTROL_PLANE, rule_followers
from lab.waiting import eventually

if TYPE_CHECKING:
    from lab.plugins.workshop.session import WorkshopLab

EVERY_S = 0.1
BACK_WITHIN = timedelta(seconds=20)

_CONTEXTS = ({"device": "phone", "country": "DE"}, {"device": "tv", "country": "US"})


class ProbeResult(NamedTuple):
    """One probe call and its result; topology pictures draw these like records."""

    topology: str
    caller: str
    use_case: str
    cluster: str
    version: str
    status: str
    message: str
    latency_ms: float
    done_ns: int


def watch(lab: WorkshopLab, topologies: Sequence[str], *, seconds: float = 1.5) -> list[ProbeResult]:
    """Probes every caller on each topology, ten times a second, for all its use cases in turn.

    Args:
        lab: a lab that is up.
        topologies: topologies to probe, in parallel.
        seconds: duration; a call in flight is waited for.
    """
    document = lab.route_table()
    use_cases = {
        caller: [name for name, entry in document["use_cases"].items() if caller in entry["callers"]]
        for caller in lab.endpoints().callers
    }
    rows = [(topology, caller, own) for topology in topologies for caller, own in use_cases.items() if own]
    until = time.monotonic() + seconds
    with ThreadPoolExecutor(max_workers=len(rows)) as pool:
        return [each for row in pool.map(lambda row: _row(lab, *row, until=until), rows) for each in row]


def cut_off(asked: Sequence[ProbeResult]) -> dict[str, list[str]]:
    """For each topology, the callers that got no answer at all."""
    seen: dict[str, dict[str, bool]] = {}
    for each in asked:
        callers = seen.setdefault(each.topology, {})
        callers[each.caller] = callers.get(each.caller, False) or each.status == "OK"
    return {topology: [name for name, ok in callers.items() if not ok] for topology, callers in seen.items()}


def back(lab: WorkshopLab, topologies: Sequence[str]) -> None:
    """Returns when all nodes are connected to the control plane and every caller is answered on each topology again.

    Raises:
        DeadlineError: some are not in time.
    """
    eventually(
        "all are connected to the control plane again",
        lambda: _disconnected(lab),
        within=BACK_WITHIN,
        until=lambda missing: not missing,
    )
    eventually(
        "all callers are answered again",
        lambda: {name: callers for name, callers in cut_off(watch(lab, topologies, seconds=0)).items() if callers},
        within=BACK_WITHIN,
        until=lambda missing: not missing,
    )


def _disconnected(lab: WorkshopLab) -> set[str]:
    """Nodes that are not connected to the control plane; the control plane itself if it does not answer."""
    status = lab.status()
    if status.control_plane is None:
        return {CONTROL_PLANE}
    expected = {unit.name for unit in status.units if unit.role in rule_followers()}
    return expected - {node.node for node in status.control_plane.nodes}


def _row(lab: WorkshopLab, topology: str, caller: str, use_cases: Sequence[str], *, until: float) -> list[ProbeResult]:
    asked = []
    for number, use_case in enumerate(cycle(use_cases)):
        began = time.monotonic()
        asked.append(_ask(lab, topology, caller, use_case, number))
        if time.monotonic() > until:
            return asked
        time.sleep(max(0.0, began + EVERY_S - time.monotonic()))
    return asked


def _ask(lab: WorkshopLab, topology: str, caller: str, use_case: str, number: int) -> ProbeResult:
    context = {"user_id": f"u{number}", **_CONTEXTS[number // 2 % len(_CONTEXTS)]}
    cluster = version = message = ""
    latency_ms = 0.0
    status = "OK"
    try:
        answer = lab.call(use_case, topology=topology, caller=caller, context=context)
        cluster, version, latency_ms = answer.cluster, answer.version, answer.latency_ms
    except CallError as error:
        status, message = error.code.name, error.message
    return ProbeResult(topology, caller, use_case, cluster, version, status, message, latency_ms, lab_time_ns())
