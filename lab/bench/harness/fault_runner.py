"""Harms a lab, one fault after the other, while all callers send by all topologies at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from threading import Event
from typing import TYPE_CHECKING

from lab.admin import AdminClient
from lab.errors import LabError, UnitError
from lab.measure.compare import interleave
from lab.runs import LoadOptions
from lab.runs.blast_radius import parallel_runs
from lab.runs.drive import DEFAULT_CONTEXTS
from lab.runtime.cancellation import Breaking
from lab.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from lab.admin import ControlPlaneStatus
    from lab.bench.harness.bench_faults import Harm
    from lab.bench.harness.environment import Setting
    from lab.load.progress import Progress
    from lab.measure.blast_rounds import Radius
    from lab.runs import TogetherResult

RATE = 15.0
"""Requests per second of each caller by each topology."""

STEADY_S, HOLD_S, AFTER_S = 2.0, 2.5, 1.5
"""How long all is well before a fault, how long it lasts, and what is waited once everybody is back."""

TIMEOUT_S = 3.0

TENANTS: Mapping[str, tuple[str, ...]] = {
    "homepage": ("consumer", "partner"),
    "search": ("consumer",),
    "playback": ("consumer", "partner"),
    "payments": ("business",),
}
"""For whom callers ask; those that are not here, for ``consumer``."""

_LONGEST_S = 12.0  # one fault, with what is before and after it, on a slow machine
_LEAD_S = 30.0
_LOOK_EVERY_S = 0.05
_STARTS_WITHIN_S = 60.0
_BACK_WITHIN = timedelta(seconds=20)
_NS = 1e9


@dataclass(frozen=True, slots=True)
class Harmed:
    """What came of it.

    Attributes:
        folder: of the runs.
        radii: of each fault and topology.
        requests: that were sent in all.
    """

    folder: Path
    radii: Sequence[Radius]
    requests: int


def harm_all(setting: Setting, harms: Sequence[Harm], topologies: Sequence[str], rounds: int) -> Harmed:
    """Drives load, does one harm after the other to the lab, and measures whom each has reached.

    Raises:
        UnitError: a driver did not start, or did not come to its end.
        DeadlineError: what was harmed did not come back.
    """
    callers = list(setting.state.plan.callers)
    options = [
        LoadOptions(
            topology=topology,
            caller=caller,
            rate=RATE,
            duration_s=_LEAD_S + _LONGEST_S * len(harms) * rounds,
            contexts={**DEFAULT_CONTEXTS, "tenant": TENANTS.get(caller, ("consumer",))},
            seed=place,  # each has arrivals of its own: at the same times they would come in bursts
            timeout_s=TIMEOUT_S,
        )
        for place, (topology, caller) in enumerate((topology, caller) for topology in topologies for caller in callers)
    ]
    done: list[tuple[Harm, int | None]] = []
    breaking, all_answer, calm = Breaking(), Event(), _Calm()

    def look(seen: Mapping[str, Progress]) -> None:
        calm.look(list(seen.values()))
        if len(seen) == len(options) and all(each.ok for each in seen.values()):
            all_answer.set()

    with ThreadPoolExecutor(max_workers=1) as pool, AdminClient(setting.lab.endpoints().control_plane) as admin:
        setting.say(f"starting {len(options)} drivers")
        run = pool.submit(setting.lab.load_together, options, progress=look, breaking=breaking)
        run.add_done_callback(lambda _: all_answer.set())
        try:
            if not all_answer.wait(_STARTS_WITHIN_S):
                raise UnitError(f"not every driver was answered within {_STARTS_WITHIN_S:g} s: see `lab status`")
            watched = _Watched(setting, admin, run, calm)
            for number, order in enumerate(interleave(harms, rounds, seed=0), 1):
                for place, harm in enumerate(order, 1):
                    setting.say(f"round {number} of {rounds}, fault {place} of {len(order)}: {harm.text}")
                    done.append((harm, watched.harm(harm)))
            time.sleep(STEADY_S)
        finally:
            breaking.off()
        result = run.result()
    return _measured(result, done)


def _measured(result: TogetherResult, done: Sequence[tuple[Harm, int | None]]) -> Harmed:
    scene = parallel_runs([run.folder for run in result.runs])
    faults = [
        replace(fault, name=harm.name, noticed_ns=noticed_ns)
        for fault, (harm, noticed_ns) in zip(scene.faults, done, strict=True)
    ]
    requests = sum(run.summary.ok + run.summary.failed for run in result.runs)
    return Harmed(result.folder, scene.radii(faults), requests)


class _Calm:
    """Whether all drivers have been answered for a while; true if so."""

    def __init__(self) -> None:
        self._failed, self._restless_at = 0, time.monotonic()

    def __bool__(self) -> bool:
        return time.monotonic() - self._restless_at > AFTER_S

    def look(self, runs: Sequence[Progress]) -> None:
        """Is told how they go, some times a second."""
        failed, in_flight = sum(each.failed for each in runs), sum(each.in_flight for each in runs)
        if failed > self._failed or in_flight > len(runs):
            self._restless_at = time.monotonic()
        self._failed = failed


class _Watched:
    """A lab that is harmed and watched, as its control plane sees it."""

    def __init__(self, setting: Setting, admin: AdminClient, run: Future[TogetherResult], calm: _Calm) -> None:
        self._setting, self._admin, self._run, self._calm = setting, admin, run, calm

    def harm(self, harm: Harm) -> int | None:
        """One fault, from steady to steady again; returns when the control plane knew of it, Unix ns."""
        lab, victims = self._setting.lab, harm.victims(self._setting.state.plan)
        before = self._seen()
        self._rest(STEADY_S)
        began = time.monotonic()
        fault = harm.inject(lab, victims)
        try:
            noticed_ns = self._noticed(set(victims), began + HOLD_S) if before & set(victims) else None
            self._rest(began + HOLD_S - time.monotonic())
        finally:
            fault.heal()
        eventually(
            f"everybody is back after: {harm.text}",
            lambda: before - self._seen(),
            within=_BACK_WITHIN,
            until=lambda missing: not missing,
        )
        self._rest(AFTER_S)
        until = time.monotonic() + _BACK_WITHIN.total_seconds()
        while not self._calm and time.monotonic() < until:  # if it never is, what comes next is unknown, and says so
            self._rest(_LOOK_EVERY_S)
        return noticed_ns

    def _noticed(self, victims: set[str], until: float) -> int | None:
        """When it no longer counts on any of them; None if it still does in the end."""
        while time.monotonic() < until:
            if not self._seen() & victims:
                return time.time_ns()
            time.sleep(_LOOK_EVERY_S)
        return None

    def _seen(self) -> set[str]:
        """Nodes that it holds a stream with, and replicas that have loaded something; none if it does not answer."""
        try:
            known: ControlPlaneStatus = self._admin.status()
        except LabError:
            return set()
        loaded = {each.replica for each in known.replicas if each.loaded and not each.draining}
        return {node.node for node in known.nodes} | loaded

    def _rest(self, seconds: float) -> None:
        """Waits, unless the load has ended: then there is nothing to wait for."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._run.done():
                self._run.result()
                raise LabError("the load has ended before all faults were done; see the folder of its runs")
            time.sleep(min(left, 0.1))
