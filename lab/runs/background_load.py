"""Drives load in the background, while the caller does something else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING, Protocol

from lab.errors import DeadlineError

if TYPE_CHECKING:
    from lab.load.progress import Progress
    from lab.runs.drive import LoadOptions
    from lab.runs.judging import RunResult

STARTS_WITHIN_S = 30.0


class Driver(Protocol):
    """Drives one load, as :meth:`lab.lab.Lab.load` does."""

    def __call__(self, options: LoadOptions, *, progress: Callable[[Progress], None]) -> RunResult:
        """Drives one run and returns its result."""


@contextmanager
def background_load(drive: Driver, *loads: LoadOptions) -> Iterator[list[Future[RunResult]]]:
    """Drives all loads at the same time. The body starts once each has its first answer or is over.

    Yields:
        The runs, in the order of the loads. All have ended when the context exits.

    Raises:
        DeadlineError: a load got no answer within :data:`STARTS_WITHIN_S`.
    """
    with ThreadPoolExecutor(max_workers=len(loads)) as pool:
        answered = [Event() for _ in loads]
        runs = []
        for load, event in zip(loads, answered, strict=True):
            run = pool.submit(drive, load, progress=_sets_once_answered(event))
            run.add_done_callback(_sets_when_done(event))
            runs.append(run)
        for load, event in zip(loads, answered, strict=True):
            if not event.wait(STARTS_WITHIN_S):
                raise DeadlineError(f"load by {load.topology}: got no answer within {STARTS_WITHIN_S:g} s")
        yield runs


def _sets_once_answered(event: Event) -> Callable[[Progress], None]:
    def progress(seen: Progress) -> None:
        if seen.ok:
            event.set()

    return progress


def _sets_when_done(event: Event) -> Callable[[object], None]:
    return lambda _: event.set()
