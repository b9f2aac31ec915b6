"""A load engine: people in a closed loop, each of whom asks again as soon as the answer is there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic_ns
from typing import TYPE_CHECKING

import uvloop

from lab.bounds import Range
from lab.history import SpoolWriter
from lab.load.engines import Engine, Option
from lab.load.mix import Mix, Payloads
from lab.load.open_loop import RequestSender, Stop
from lab.load.plan import EnginePlan
from lab.load.progress import ProgressLines, each_second
from lab.load.steps import connect, print_progress, raise_priority, warm_up, write_summary
from lab.load.summary import combine

if TYPE_CHECKING:
    from lab.load.outcome import LoadClient
    from lab.load.plan import LoadPlan

NAME = "closed-loop"


def plan_of(*, people: int = 4) -> EnginePlan:
    """Its part of the plan: what checkers and reports go by, and its own settings."""
    return EnginePlan(name=NAME, closed_loop=True, settings={"people": people})


class ClosedLoop(RequestSender):
    """Sends each person's next request when the one before is done, until the plan's duration is over."""

    def __init__(self, plan: LoadPlan, client: LoadClient, spool: SpoolWriter, stop: Stop) -> None:
        super().__init__(plan, client, spool, stop)
        self._mix, self._payloads, self._lines = Mix(plan), Payloads(), ProgressLines()
        self.start_ns = monotonic_ns()
        self._end_ns = self.start_ns + (plan.arrivals.duration_ns or 0)

    def _begin_due(self) -> None:
        """Nothing is due by the clock."""

    async def run(self) -> None:
        """Returns when all people have their last answer."""
        people = [asyncio.create_task(self._ask()) for _ in range(self._plan.engine.settings["people"])]
        asyncio.gather(*people).add_done_callback(lambda _: self._all_begun.set())
        await super().run()

    async def _ask(self) -> None:
        while not self._begins_no_more and (due_ns := monotonic_ns()) < self._end_ns:
            sequence, self._begun = self._begun, self._begun + 1
            spec = self._mix.draw()
            payload = self._payloads.get(spec.use_case.api, self._plan.payload_bytes)
            await asyncio.create_task(self._send(sequence, spec, payload, due_ns))  # a timeout cancels this task alone
            self._look_whether_done()

    def report(self) -> None:
        """Prints the progress since the last report."""
        now_ns, recorder = monotonic_ns(), self.recorder
        print_progress(
            self._lines.take(
                elapsed_ns=now_ns - self.start_ns,
                remaining_ns=self._end_ns - now_ns,
                sent=self.sent,
                done=recorder.done,
                ok=recorder.ok,
                recent_ns=recorder.take_recent_ns(),
            )
        )


async def drive(plan: LoadPlan) -> None:
    """Connects, warms up, lets the people ask, and writes the summary."""
    stop, client, errors = Stop.on_signals(), connect(plan), dict[str, str]()
    raise_priority()
    try:
        await warm_up(plan, client, errors)
        with SpoolWriter(plan.spool) as spool:
            loop = ClosedLoop(plan, client, spool, stop)
            reporting = asyncio.create_task(each_second(loop.start_ns, loop.report))
            try:
                await loop.run()
            finally:
                reporting.cancel()
            loop.report()
    finally:
        await client.close()
    result = loop.result(None, start_ns=loop.start_ns, planned_end_ns=loop.last_sent_ns, warm_up_errors=errors)
    write_summary(plan.summary, combine([result]))


def run(plan: LoadPlan, file: Path) -> None:
    """Runs in the driver's process."""
    del file  # no other process needs the plan
    uvloop.run(drive(plan))


ENGINE = Engine(
    name=NAME,
    summary="people who ask again as soon as they have the answer",
    plan=plan_of,
    run=run,
    options=(Option(name="people", help="Number of people; 4 by default.", type=int, within=Range(1, 1_000)),),
)
