"""Several loads at the same time, and something that is done while requests flow."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lab.load.progress import Progress
    from lab.runs import LoadOptions, RunResult

STARTS_WITHIN_S = 30.0


class Drives(Protocol):
    """Drives one load; :meth:`lab.lab.Lab.load` does."""

    def __call__(self, options: LoadOptions, *, progress: Callable[[Progress], None]) -> RunResult:
        """One run."""


def drive_together(drive: Drives, loads: Sequence[LoadOptions], during: Callable[[], object]) -> list[RunResult]:
    """The runs of all loads, in their order; ``during`` is called once each of them has been answered.

    Raises:
        LabError: a run could not be made; or whatever ``during`` raises.
    """
    with ThreadPoolExecutor(max_workers=len(loads)) as pool:
        answered = [Event() for _ in loads]
        runs = []
        for load, event in zip(loads, answered, strict=True):
            run = pool.submit(drive, load, progress=_telling(event))
            run.add_done_callback(_setting(event))
            runs.append(run)
        for event in answered:
            event.wait(STARTS_WITHIN_S)
        during()
        return [run.result() for run in runs]


def _telling(event: Event) -> Callable[[Progress], None]:
    def progress(seen: Progress) -> None:
        if seen.ok:
            event.set()

    return progress


def _setting(event: Event) -> Callable[[object], None]:
    return lambda _: event.set()
