"""A server that is silent for two seconds shows in the figures, because latency counts from the intended times."""

from __future__ import annotations

import asyncio
from pathlib import Path
from threading import Thread

from lab.history import SpoolWriter, read_spool
from lab.lab import Lab
from lab.load.arrivals import Constant
from lab.load.plan import LoadPlan, UseCase
from lab.load.progress import Progress
from lab.load.summary import latency_histogram
from lab.plugins.bench.harness.senders import keep_busy
from lab.runs import LoadOptions
from lab.runtime.state import LabState
from lab.topologies import open_client

USE_CASE = UseCase("ContinueWatchingRanking", "ranking.v1")
CALLER = "homepage"
SECONDS = 12.0
WITHIN_S = 60.0


class Pause:
    """Freezes units when a run has gone on for a second, and lets them go on two seconds later, by the run's clock."""

    def __init__(self, lab: Lab, units: list[str]) -> None:
        self._lab, self._units = lab, units
        self._paused = self._over = False

    def tell(self, progress: Progress) -> None:
        second = round(progress.elapsed_s)
        if second >= 1 and not self._paused:
            self._paused = True
            for unit in self._units:
                self._lab.units.pause(unit)
        elif second >= 3 and not self._over:
            self._over = True
            for unit in self._units:
                self._lab.units.resume(unit)


async def closed_loop(plan: LoadPlan) -> None:
    client = open_client(plan.topology, plan.caller, plan.endpoints)
    try:
        await client.ready()
        with SpoolWriter(plan.spool) as spool:
            await keep_busy(plan, client, spool, in_flight=1)
    finally:
        await client.close()


def test_two_silent_seconds_are_in_the_tail_of_the_open_loop_and_a_closed_loop_misses_them(
    lab: Lab, tmp_path: Path
) -> None:
    # Given: who answers, and beside the open loop one caller who waits for each answer before asking again.
    endpoints = LabState.of(lab.folder).plan.callers[CALLER]
    addresses = endpoints.direct[USE_CASE.name].addresses
    replicas = [unit.name for unit in LabState.of(lab.folder).plan.units if unit.port.outside in addresses]
    plan = LoadPlan(
        topology="direct",
        caller=CALLER,
        use_cases=(USE_CASE,),
        arrivals=Constant(rate=100, duration_s=SECONDS),
        endpoints=endpoints,
        spool=tmp_path / "spool",
        summary=tmp_path / "summary",
    )
    beside = Thread(target=lambda: asyncio.run(closed_loop(plan)))
    options = LoadOptions(
        topology="direct",
        caller=CALLER,
        use_cases=(USE_CASE.name,),
        arrivals="constant",
        rate=100,
        duration_s=SECONDS,
        endpoints=endpoints,
    )

    # When: all replicas are silent for two seconds.
    beside.start()
    try:
        result = lab.load(options, progress=Pause(lab, replicas).tell)
    finally:
        for replica in replicas:
            lab.units.resume(replica)
        beside.join(WITHIN_S)

    # Then: of 1,200 requests some ten were due in the first tenth of a second, which is more than one in a thousand.
    assert result.summary.ok == result.summary.planned == 100 * SECONDS
    assert result.summary.p999_ms >= 1_900
    # The one who waits has seen the same silence once, and once is not in a thousand of thousands.
    waited = latency_histogram(read_spool(plan.spool)).percentiles()
    assert waited.count >= 1_100
    assert waited.max_ms >= 1_900 > 2 * waited.p999_ms
