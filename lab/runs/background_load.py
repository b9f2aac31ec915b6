"""Loads that run while something else is done."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING, Protocol

from lab.errors import DeadlineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.load.progress import Progress
    from lab.runs.drive import LoadOptions
    from lab.runs.folder import RunResult

STARTS_WITHIN_S = 30.0


class Drives(Protocol):
    """Drives one load; :meth:`lab.lab.Lab.load` does."""

    def __call__(self, options: LoadOptions, *, progress: Callable[[Progress], None]) -> RunResult:
        """One run."""


@contextmanager
def background_load(drive: Drives, *loads: LoadOptions) -> Iterator[list[Future[RunResult]]]:
    """Drives all loads at the same time; the body runs once each of them is answered or over, and may outlast them.

    Yields:
        The runs, in the order of the loads. They have ended when the body has been left.

    Raises:
        DeadlineError: one was not answered within :data:`STARTS_WITHIN_S`.
    """
    with ThreadPoolExecutor(max_workers=len(loads)) as pool:
        answered = [Event() for _ in loads]
        runs = []
        for load, event in zip(loads, answered, strict=True):
            run = pool.submit(drive, load, progress=_telling(event))
            run.add_done_callback(_setting(event))
            runs.append(run)
        for load, event in zip(loads, answered, strict=True):
            if not event.wait(STARTS_WITHIN_S):
                raise DeadlineError(f"load by {load.topology}: nothing was answered within {STARTS_WITHIN_S:g} s")
        yield runs


def _telling(event: Event) -> Callable[[Progress], None]:
    def progress(seen: Progress) -> None:
        if seen.ok:
            event.set()

    return progress


def _setting(event: Event) -> Callable[[object], None]:
    return lambda _: event.set()
