"""Moves callers of a lab to another topology while they send, and says what each step costs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from operator import le
from typing import TYPE_CHECKING

from lab.plugins.bench.harness.environment import cpu_seconds
from lab.runs import LoadOptions
from lab.runtime.cancellation import CancelToken
from lab.waiting import eventually

if TYPE_CHECKING:
    from lab.load.progress import Progress
    from lab.plugins.workshop.session import WorkshopLab
    from lab.runs import ParallelResult

ANSWERED = 5
"""Answers by the new topology until a caller counts as moved."""
MOVED_WITHIN = timedelta(seconds=30)
_AT_MOST_S = 300.0


class Moves:
    """Callers that send, each by the topology that it uses; :func:`moving` makes one.

    Attributes:
        callers: their names.
        result: of all their runs, once they have ended.
    """

    def __init__(self, lab: WorkshopLab, callers: Sequence[str], seen: dict[str, Progress]) -> None:
        self.callers = tuple(callers)
        self.result: ParallelResult | None = None
        self._lab, self._seen = lab, seen

    def to(self, topology: str, *callers: str) -> None:
        """Moves callers, all if none is named, and returns when the topology answers each of them.

        Raises:
            DeadlineError: one is not answered in time.
        """
        moved = callers or self.callers
        before = {each: self._answers(topology, each) for each in moved}
        self._lab.callers.use(topology, moved)
        for each, count in before.items():
            eventually(
                f"{each} is answered by {topology}",
                partial(self._answers, topology, each),
                within=MOVED_WITHIN,
                until=partial(le, count + ANSWERED),
            )

    def cores(self, *roles: str, seconds: float = 3.0) -> dict[str, float]:
        """The processor time that units of these roles use, in cores, over a time."""
        units = [unit for unit in self._lab.status().units if unit.role in roles and unit.pid]
        before, began = [cpu_seconds(unit.pid) for unit in units], time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - began
        used = dict.fromkeys(roles, 0.0)
        for unit, was in zip(units, before, strict=True):
            used[unit.role] += (cpu_seconds(unit.pid) - was) / took
        return used

    def _answers(self, topology: str, caller: str) -> int:
        """Answers that a topology has given a caller, in all its runs."""
        name = f"{topology}-{caller}"
        return sum(each.ok for run, each in list(self._seen.items()) if run == name or run.startswith(f"{name}-"))


@contextmanager
def moving(lab: WorkshopLab, callers: Sequence[str], start: str, *, rate: float) -> Iterator[Moves]:
    """Callers send while the body runs, ``rate`` requests a second each, first all by the topology ``start``."""
    seen: dict[str, Progress] = {}
    moves, token = Moves(lab, callers, seen), CancelToken()
    lab.callers.use(start, callers)
    options = [
        LoadOptions(topology=start, caller=each, rate=rate, duration_s=_AT_MOST_S, seed=number)
        for number, each in enumerate(callers)
    ]
    with ThreadPoolExecutor(1) as pool:
        driven = pool.submit(lab.load_mixture, options, progress=seen.update, cancel_token=token)
        try:
            moves.to(start)
            yield moves
        finally:
            token.cancel()
        moves.result = driven.result()
