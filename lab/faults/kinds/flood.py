"""Lets one tenant send more requests than the models can serve."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import InputError, LabError
from lab.faults.fault_kind import FaultKind
from lab.faults.observation import Observation, seen, unknown
from lab.faults.settings import Number, Word, by_level, number
from lab.load.arrivals import Poisson
from lab.load.plan import LoadPlan, UseCase, write_plan
from lab.load.progress import Progress
from lab.routing.shards import clusters_of
from lab.runs.announced import announce

if TYPE_CHECKING:
    from lab.faults.fault_context import FaultContext
    from lab.faults.state import FaultRecord
    from lab.runtime.state import LabState
    from models.proto.control.v1 import stub_pb2

NOMINAL_RPS = 200.0
"""Assumed capacity where the models have no concurrency limit; the setting ``capacity`` overrides it."""

MOST_RPS = 2_000.0
_TIMEOUT_S = 2.0
_USERS = 1_000
_PLAN, _PROGRESS = "plan.json", "progress.json"
_FOLDER = "faults"


class Flood(FaultKind):
    """Sends load of its own beside all other load."""

    name = "flood"
    summary = "lets one tenant send a multiple of what the models can serve, open-loop, in the background"
    past = "flooding"
    targets = "a tenant: the name in its requests' context"
    settings = (
        Number("times", "multiple of the capacity that is sent", 0.01, 100, 2),
        Number("seconds", "seconds that it lasts", 0.5, 300, 10),
        Number("rate", f"requests per second instead, {MOST_RPS:g} at most; 0: times x capacity", 0, MOST_RPS),
        Number(
            "capacity",
            "requests per second that the models can serve; 0: their concurrency limits over their service times, "
            f"{NOMINAL_RPS:g} where they have none",
            0,
            MOST_RPS,
        ),
        Word("caller", "caller that sends; the lab's first if left out"),
        Word("topology", "topology of the requests; the lab's first if left out"),
        Word("use_case", "use case of the requests; all that the caller may use if left out"),
    )
    levels = by_level(times=(1.0, 2.0, 4.0))
    group = "flood"

    def lasts_s(self, settings: Mapping[str, Any]) -> float:
        return number(settings, "seconds")

    def candidates(self, context: FaultContext, target: str, settings: Mapping[str, Any]) -> list[str]:
        """Returns no units; checks that caller and topology are in the lab."""
        del target
        _caller_and_topology(context.state(), settings)
        return []

    def prepare(self, context: FaultContext, fault: FaultRecord) -> Mapping[str, Any]:
        """Writes the load's plan into the lab's folder."""
        caller, topology = _caller_and_topology(context.state(), fault.settings)
        with context.admin() as admin:
            document = admin.revision().document or {}
        use_cases = _use_cases(document, caller, str(fault.settings["use_case"]))
        rate = min(MOST_RPS, number(fault.settings, "rate") or self._rate(context, fault, document, use_cases))
        folder = _folder(context, fault)
        folder.mkdir(parents=True)
        plan = LoadPlan(
            topology=topology,
            caller=caller,
            use_cases=use_cases,
            arrivals=Poisson(rate, (fault.until_ns - fault.injected_ns) / 1e9, fault.seed),
            endpoints=context.state().plan.callers[caller],
            spool=Path("history.jsonl"),
            summary=Path("driver.json"),
            seed=fault.seed,
            users=_USERS,
            contexts={"tenant": (fault.target,), "device": ("tv", "phone", "web"), "country": ("US", "DE", "IN")},
            timeout_s=_TIMEOUT_S,
            id_prefix=f"{fault.id}-{fault.injected_ns:x}",
        )
        announce(context.folder, plan.id_prefix, f"fault {fault.id}")
        write_plan(plan, folder / _PLAN)
        return {"rate": rate, "caller": caller, "topology": topology, "requests": _requests(context)}

    def inject(self, context: FaultContext, fault: FaultRecord) -> Mapping[str, Any]:
        """Does nothing: the fault timer's process drives the load."""
        del context, fault
        return {}

    def run(self, context: FaultContext, fault: FaultRecord) -> None:
        """Drives the load to its end, or until the process is stopped."""
        folder = _folder(context, fault)

        def keep(line: str) -> None:
            scratch = folder / "progress.new"
            scratch.write_text(json.dumps(asdict(Progress.from_line(line))))
            scratch.replace(folder / _PROGRESS)

        if status := context.runtime().run_driver(folder, fault.memory["caller"], keep):
            raise LabError(f"{fault.id}: its driver ended with status {status}")

    def observe(self, context: FaultContext, fault: FaultRecord) -> Observation:
        """Checks that half of the due requests were sent, and that half of these reached models or failed."""
        rate = float(fault.memory["rate"])
        try:
            progress = json.loads((_folder(context, fault) / _PROGRESS).read_text())
        except FileNotFoundError:
            return unknown("its driver has not reported yet", rate=rate)
        before: Mapping[str, int] = fault.memory["requests"]
        arrived = sum(max(0, count - before.get(name, 0)) for name, count in _requests(context).items())
        sent, elapsed_s = int(progress["sent"]), float(progress["elapsed_s"])
        figures = {
            "rate": rate,
            "sent": sent,
            "sent_rate": round(sent / elapsed_s, 1) if elapsed_s else 0.0,
            "ok": progress["ok"],
            "failed": progress["failed"],
            "p50_ms": progress["p50_ms"],
            "p99_ms": progress["p99_ms"],
            "requests_at_models_since": arrived,
        }
        because = f"{sent} requests sent in {elapsed_s:g} s, {progress['failed']} failed; models received {arrived}"
        if not elapsed_s:
            return unknown(because, **figures)
        holds = sent >= rate * elapsed_s / 2 and max(arrived, int(progress["failed"])) >= sent / 2
        return seen(holds=holds, because=because, **figures)

    def heal(self, context: FaultContext, fault: FaultRecord) -> None:
        """Ends the driver, in case that the fault timer's process has died without ending it."""
        context.runtime().kill_driver(_folder(context, fault))

    def describe(self, fault: FaultRecord) -> str:
        return f"{fault.memory['rate']:g} rps through {fault.memory['topology']}"

    @staticmethod
    def _rate(
        context: FaultContext, fault: FaultRecord, document: Mapping[str, Any], use_cases: tuple[UseCase, ...]
    ) -> float:
        capacity = number(fault.settings, "capacity") or _capacity(context, document, use_cases)
        return number(fault.settings, "times") * capacity


def _caller_and_topology(state: LabState, settings: Mapping[str, Any]) -> tuple[str, str]:
    """Returns the load's caller and topology."""
    caller = str(settings["caller"]) or next(iter(state.plan.callers))
    topology = str(settings["topology"]) or state.topologies[0]
    if caller not in state.plan.callers:
        raise InputError(f"caller: {caller!r} is not in this lab; there are {', '.join(state.plan.callers)}")
    if topology not in state.topologies:
        raise InputError(f"topology: {topology!r} is not up; there are {', '.join(state.topologies)}")
    return caller, topology


def _use_cases(document: Mapping[str, Any], caller: str, only: str) -> tuple[UseCase, ...]:
    known = {name: entry for name, entry in document.get("use_cases", {}).items() if caller in entry["callers"]}
    if only and only not in known:
        raise InputError(f"use_case: {caller} may not call {only!r}; it may call {', '.join(known)}")
    if not known:
        raise InputError(f"caller: {caller} is not allowed any use case; name another")
    return tuple(UseCase(name, known[name]["api"]) for name in ([only] if only else known))


def _capacity(context: FaultContext, document: Mapping[str, Any], use_cases: tuple[UseCase, ...]) -> float:
    """Returns the requests per second that the default models of these use cases can serve."""
    clusters: set[str] = set()
    for use_case in use_cases:
        model, _, version = document["use_cases"][use_case.name]["default"].partition("@")
        clusters.update(clusters_of(document["models"][model]["versions"][version]["cluster"]).values())
    running = context.states()
    replicas = [
        each.name
        for each in context.state().plan.with_role("model")
        if each.cluster in clusters and running.get(each.name) == "running"
    ]
    each_rps = [_replica_rps(context.behaviour(name)) for name in replicas]
    return sum(each_rps) if each_rps and all(each_rps) else NOMINAL_RPS


def _replica_rps(behaviour: stub_pb2.Behaviour) -> float:
    """Returns the requests per second that a replica can serve; 0 if it has no limit."""
    ms = behaviour.constant.ms or behaviour.lognormal.median_ms or behaviour.load_dependent.ms
    return behaviour.concurrency_limit * 1_000 / ms if ms else 0.0


def _requests(context: FaultContext) -> dict[str, int]:
    running = context.states()
    names = [unit.name for unit in context.state().plan.with_role("model") if running.get(unit.name) == "running"]
    return {name: int(context.counts(name).requests) for name in names}


def _folder(context: FaultContext, fault: FaultRecord) -> Path:
    return context.folder / _FOLDER / fault.id


FLOOD = Flood()
