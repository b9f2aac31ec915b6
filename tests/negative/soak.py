"""``python -m tests.negative.soak --minutes 30 --seed 1``: a lab under load, with attackers and faults beside it.

All callers send by two topologies, and one caller by each other topology; attackers try what
:mod:`tests.negative.cases` refuses, and flood one unit after the other (:mod:`tests.transport.floods`); every few
seconds the seed draws a fault; twice the machine starves. In the end the verdict, by six claims:

- *correctness* and *availability* of every run are valid, as ``lab check`` finds;
- no attack got through;
- the memory of every unit is flat but for the requests that a replica keeps as evidence, and so are its descriptors;
- within a minute after the end, every unit that still runs is back within 10 % of the memory that it had idle before,
  or within what it keeps as evidence and :data:`_KEPT_MB`. *Idle before* is after a request by each way that the soak
  takes, REST included: a unit imports its HTTP library, 16 MB, with its first connection there, and never again;
- the audit log has every act of the soak, and every refusal of an attacker who would publish: in its own entry,
  or counted as left out.

Exit status 0 if all hold. The record is ``soak.json`` in the run's folder, with date, commit and total rate.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from operator import not_
from pathlib import Path
from typing import Any, TypeVar

import psutil

from lab import CHECKOUT
from lab.checkers import Claim, Outcome, Verdict, Violation, by_claim
from lab.checkers.evidence import prefix_of
from lab.checkers.kinds import announced
from lab.errors import DeadlineError, LabError
from lab.faults import AuditLog
from lab.lab import DEFAULT_SPEC, Lab
from lab.runs import LoadOptions, ParallelResult
from lab.runs.events import Event, append_event, of_unit
from lab.runs.folder import RunFolder
from lab.runtime.state import LabState
from lab.topologies import TOPOLOGIES
from lab.waiting import eventually
from tests.negative.cases.keys import KEYS
from tests.negative.cases.text import TEXT
from tests.negative.flatness import EVIDENCE_MB, sampling
from tests.negative.floods import ATTACKER, UNITS, address_of
from tests.negative.intruder import COUNTED_WITHIN_S, PUBLISH, Refusals
from tests.negative.scene import Case, Scene
from tests.negative.starvation import starving
from tests.negative.wire import Answer, tls_context
from tests.rest_client import post
from tests.tools import run_tool
from tests.transport.floods import FLOODS

T = TypeVar("T")
_BY_ALL = ("gateway", "mesh")
_TOPOLOGIES = tuple(each.name for each in TOPOLOGIES.values() if each.in_default_lab)
_RATE = 4.0  # requests per second of each caller by each of its topologies
_ATTACKS = 50.0  # per second
_ATTACKERS = 8
_RULELESS, _WARM_UP_S = "payments", 5.0
_FAULT_EVERY_S, _FLOOD_EVERY_S = 20.0, 7.0
_ASKED = (Claim.CORRECTNESS, Claim.AVAILABILITY)
_IDLE_AFTER_S, _BACK_WITHIN, _KEPT_MB = 60.0, 1.1, 10.0
_STARVED_AT, _STARVED_S = (0.4, 0.7), 8.0
# Kind, target, settings and seconds. Each leaves a healthy replica beside it.
_FAULTS: tuple[tuple[str, str, Mapping[str, Any], float], ...] = (
    ("kill", "ml-cluster-1-b", {}, 4.0),
    ("kill", "gateway-2", {}, 4.0),
    ("pause", "ml-cluster-2-b", {}, 3.0),
    ("pause", "gateway-2", {}, 3.0),
    ("slow", "ml-cluster-3", {"ms": 50}, 8.0),
    ("error", "ml-cluster-1-b", {"rate": 0.2}, 8.0),
    ("churn", "ml-cluster-2", {"every_ms": 1_000}, 6.0),
    ("control-plane-loss", "", {"how": "kill", "seconds": 4}, 0.0),
    ("control-plane-loss", "", {"how": "pause", "seconds": 3}, 0.0),
)


def attacks() -> list[Case]:
    """Those that are refused in any lab, by a status and their own reason, and without waiting for a log."""
    refused = [case for case in (*KEYS, *TEXT) if case.status in {"INVALID_ARGUMENT", "PERMISSION_DENIED"}]
    return [case for case in refused if case.by != "ml-cluster-2-a"]


@dataclass(slots=True)
class Attackers:
    """Hostile clients, together at a fixed rate.

    Attributes:
        ended: number of attacks by how they ended: ``refused``, or the status.
        got_through: descriptions of those that were answered.
        refusals: of those who would publish.
    """

    scene: Scene
    rng: random.Random
    ended: Counter[str] = field(default_factory=Counter)
    got_through: list[str] = field(default_factory=list)
    refusals: Refusals = field(default_factory=Refusals)

    def attack(self, ended: threading.Event) -> None:
        """Attacks until the load has ended."""
        cases, number, began = [*attacks(), PUBLISH, PUBLISH], 0, time.monotonic()
        with ThreadPoolExecutor(_ATTACKERS) as crew:
            waiting = threading.Semaphore(2 * _ATTACKERS)
            while not ended.wait(max(0.0, began + number / _ATTACKS - time.monotonic())):
                number += 1
                waiting.acquire()
                crew.submit(self._try, self.rng.choice(cases)).add_done_callback(lambda _: waiting.release())

    def _try(self, case: Case) -> None:
        try:
            answer = case.attempt(self.scene)
        except OSError as error:  # its unit is down, or frozen
            answer = Answer(type(error).__name__, "")
        if case is PUBLISH:
            self.refusals.add(answer)
        self.ended["refused" if case.is_refused(answer) else answer.status] += 1
        if answer.status == "OK":
            self.got_through.append(f"{case.name}: {answer.said()}")


@dataclass(slots=True)
class Floods:
    """Floods of units, one after the other.

    Attributes:
        sent: names, with their units.
    """

    scene: Scene
    rng: random.Random
    sent: list[str] = field(default_factory=list)

    def send(self, ended: threading.Event) -> None:
        """Sends floods until the load has ended."""
        context = tls_context(self.scene.security(ATTACKER))
        doors = [
            (unit, flood, address)
            for unit in UNITS
            for flood in FLOODS
            if (address := address_of(self.scene, unit, flood))
        ]
        due = time.monotonic()
        while not ended.wait(max(0.0, due - time.monotonic())):
            due = time.monotonic() + _FLOOD_EVERY_S
            unit, flood, address = self.rng.choice(doors)
            flood.send(address, context)
            self.sent.append(f"{unit}: {flood.name}")


@dataclass(slots=True)
class Faults:
    """Faults at random."""

    lab: Lab
    rng: random.Random
    injected: list[str] = field(default_factory=list)

    def inject(self, ended: threading.Event, until: float) -> None:
        """Injects one after another until then, on the monotonic clock, or until the load has ended."""
        due = time.monotonic()
        while due + _FAULT_EVERY_S < until and not ended.wait(max(0.0, due - time.monotonic())):
            due = time.monotonic() + _FAULT_EVERY_S
            kind, target, settings, seconds = self.rng.choice(_FAULTS)
            try:
                self.lab.faults.heal()  # one that could not be, as its unit was starved
                fault = self.lab.faults.inject(kind, target, seed=len(self.injected), **settings)
                self.injected.append(f"fault inject {kind}")
                ended.wait(seconds or settings["seconds"] + 1)
                self.lab.faults.heal(fault)
            except LabError as error:
                _say(f"{kind} {target}: {error}")


@contextmanager
def _beside(*jobs: Callable[[threading.Event], None]) -> Iterator[None]:
    """Runs jobs beside the block, which end with it, also if it fails."""
    ended = threading.Event()
    with ThreadPoolExecutor(len(jobs)) as crew:
        started = [crew.submit(job, ended) for job in jobs]
        try:
            yield
        finally:
            ended.set()
        for job in started:
            job.result()


def _starve(lab: Lab, seconds: float, ended: threading.Event) -> None:
    began = time.monotonic()
    for share in _STARVED_AT:
        if ended.wait(max(0.0, began + share * seconds - time.monotonic())):
            return
        state = LabState.of(lab.folder)
        pids = {unit.name: unit.pid for unit in lab.status().units if unit.pid}
        _say(f"starving {len(pids)} units for {_STARVED_S:g} s")
        _mark(state, lab.folder, pids, "starve", past="starved", undone_by="feed")
        with starving(pids.values()):
            ended.wait(_STARVED_S)
        _mark(state, lab.folder, pids, "feed", past="healed")


def _mark(state: LabState, folder: Path, units: Iterable[str], kind: str, *, past: str, undone_by: str = "") -> None:
    """Marks what was done to units, as faults are marked."""
    now_ns = time.time_ns()
    for name in units:
        event = Event(kind=kind, target=name, past=past, undone_by=undone_by, from_ns=now_ns, until_ns=now_ns)
        append_event(folder, of_unit(event, state.plan.unit(name), state.spec))


def _missing_acts(log: AuditLog, injected: list[str]) -> list[str]:
    """What the audit log lacks."""
    if log.missing:
        return [log.missing]
    logged = Counter(act.what for act in log.acts)
    missing = [f"{what}: {n} done, {logged[what]} logged" for what, n in Counter(injected).items() if logged[what] < n]
    missing += [f"{act.what} {act.detail}: unfinished" for act in log.acts if not act.status]
    return missing


def _arrivals(result: ParallelResult) -> dict[str, list[float]]:
    """When each replica registered a request, Unix seconds."""
    known = (RunFolder(run.folder).arrivals for run in result.runs)
    found = {arrival for each in known if each for arrival in each.requests}
    by_replica: dict[str, list[float]] = {}
    for each in found:
        by_replica.setdefault(each.replica, []).append(each.arrived_ns / 1e9)
    return by_replica


def soak(lab: Lab, minutes: float, seed: int) -> dict[str, object]:
    """Carries it out in a lab that is up; returns the record."""
    seconds = minutes * 60
    callers = sorted(lab.endpoints().callers)
    # Without a decision, `direct` can be right only where no rule decides.
    ruleless_first = sorted(callers, key=lambda each: (each != _RULELESS, each))
    # A process each, so not all callers by all topologies.
    others = zip((each for each in _TOPOLOGIES if each not in _BY_ALL), itertools.cycle(ruleless_first), strict=False)
    senders = [*itertools.product(_BY_ALL, callers), *others]
    options = [
        LoadOptions(
            topology=topology, caller=caller, rate=_RATE, duration_s=seconds, seed=seed, streams=10, edge_every=10
        )
        for topology, caller in senders
    ]
    before = _idle(lab, options)
    with tempfile.TemporaryDirectory() as folder, sampling(lab) as samples:
        attackers = Attackers(Scene(lab, Path(folder)), random.Random(seed))  # noqa: S311 (no secret)
        faults = Faults(lab, random.Random(seed + 1))  # noqa: S311 (no secret)
        floods = Floods(attackers.scene, random.Random(seed + 2))  # noqa: S311 (no secret)
        until = time.monotonic() + seconds
        with _beside(
            attackers.attack,
            floods.send,
            lambda ended: faults.inject(ended, until),
            lambda ended: _starve(lab, seconds, ended),
        ):
            result = lab.load_parallel(options)
    arrivals = _arrivals(result)
    evidence = {unit: EVIDENCE_MB * len(its) for unit, its in arrivals.items()}
    grown = _last(lambda: _kept(before, evidence), _IDLE_AFTER_S)
    trends = samples.trends(arrivals)
    wrong = {
        f"{run.folder.name}: {verdict.checker}": [violation.message for violation in _of_the_run(verdict)[:3]]
        for run in result.runs
        for verdict in run.verdicts
        if verdict.claim in _ASKED and verdict.outcome is Outcome.INVALID and _of_the_run(verdict)
    }
    missing = _last(lambda: _not_audited(lab, faults, attackers), COUNTED_WITHIN_S)
    judged = {run.folder.name: [each for each in run.verdicts if each.checker != announced.NAME] for run in result.runs}
    unproved = [
        f"{run}: {claim}"
        for run, its in judged.items()
        for claim in _ASKED
        if by_claim(its)[claim] is not Outcome.VALID
    ]
    record = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "requests_per_second": _RATE * len(senders),
        "senders": [f"{caller} by {topology}" for topology, caller in senders],
        "minutes": minutes,
        "seed": seed,
        "run_dir": str(result.folder),
        "claims": {str(claim): str(outcome) for claim, outcome in result.claims.items()},
        "wrong": wrong,
        "answers": dict(sum((Counter(run.counts._asdict()) for run in result.runs), Counter())),
        "attacks": dict(attackers.ended),
        "attacks_got_through": attackers.got_through[:20],
        "refused_to_publish": len(attackers.refusals.refused),
        "faults": dict(Counter(faults.injected)),
        "floods": dict(Counter(floods.sent)),
        "kept_memory": grown,
        "not_valid": unproved,
        "audit_lacks": missing,
        "units": [asdict(trend) | {"flat": trend.flat} for trend in trends],
        "not_flat": [f"{each.unit}: {each.what}" for each in trends if each.flat is False],
    }
    record["holds"] = not (wrong or unproved or attackers.got_through or missing or record["not_flat"] or grown)
    (result.folder / "soak.json").write_text(json.dumps(record, indent=1) + "\n")
    return record


def _idle(lab: Lab, options: Sequence[LoadOptions]) -> dict[str, tuple[psutil.Process, float]]:
    """The processes of units that have served, once at each of their ports, and their memory, MB."""
    lab.load_parallel([replace(each, duration_s=_WARM_UP_S) for each in options])
    for unit in LabState.of(lab.folder).plan.units:
        if unit.rest:
            post(lab, f"https://{unit.rest.outside}/", {})
    processes = {unit.name: psutil.Process(unit.pid) for unit in lab.status().units}
    return {name: (process, _memory_mb(process)) for name, process in processes.items()}


def _kept(before: Mapping[str, tuple[psutil.Process, float]], evidence: Mapping[str, float]) -> dict[str, str]:
    """Which units have not given back what they took, of those that nobody has killed; ``evidence`` they keep, MB."""
    after = {unit: _memory_mb(process) for unit, (process, _) in before.items()}
    return {
        unit: f"{idle:.0f} → {after[unit]:.0f} MB"
        for unit, (_, idle) in before.items()
        if after[unit] > max(idle * _BACK_WITHIN, idle + evidence.get(unit, 0) + _KEPT_MB)
    }


def _memory_mb(process: psutil.Process) -> float:
    """Resident memory; 0 of a process that has ended."""
    try:
        return float(process.memory_info().rss) / 1e6
    except psutil.NoSuchProcess:
        return 0.0


def _not_audited(lab: Lab, faults: Faults, attackers: Attackers) -> list[str]:
    log = lab.audit()
    return [*_missing_acts(log, faults.injected), *attackers.refusals.objections(log)]


def _last(probe: Callable[[], T], within_s: float) -> T:
    """What the probe finds as soon as that is nothing, and else when the time is up."""
    with suppress(DeadlineError):
        return eventually("nothing is left", probe, within=timedelta(seconds=within_s), until=not_)
    return probe()


def _of_the_run(verdict: Verdict) -> Sequence[Violation]:
    """The violations that are not requests of attackers, which announce nothing: models register what they refuse."""
    return [each for each in verdict.violations if verdict.checker != announced.NAME or prefix_of(each.request_id)]


def _commit() -> str:
    command = ("git", "describe", "--always", "--dirty", "--abbrev=12")
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False).stdout.strip()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 (a command)


def main() -> int:
    """Brings a lab up, soaks it, and prints the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--name", default="soak")
    chosen = parser.parse_args()
    lab = Lab(chosen.name)
    try:
        lab.up(spec=DEFAULT_SPEC, runtime="process", topologies=_TOPOLOGIES, security="mtls")
        record = soak(lab, chosen.minutes, chosen.seed)
        for key in record.keys() - {"units"}:
            _say(f"{key}: {record[key]}")
    finally:
        lab.down()
    return 0 if record["holds"] else 1


if __name__ == "__main__":
    sys.exit(run_tool(main))
