"""Drives each caller by the topology that it uses, and follows it, without a pause, when that changes.

::

    runs/<lab>/<utc>/
        gateway-homepage/  mesh-homepage/  gateway-homepage-2/  …    one run for each stretch of a caller's time
        together.json                                                their names, as of other runs of the same time

A caller that changes its topology begins a run by the new one before the run by the old one ends, as services do when
they are rolled out. Each run plans the whole duration, and is ended by a change or with the load.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from lab.runs.drive import drive
from lab.runs.folder import RunFolder, create, new_run_folder
from lab.runs.parallel import ParallelResult, close, wait_for
from lab.runtime.cancellation import CancelToken

if TYPE_CHECKING:
    from lab.load.progress import Progress
    from lab.runs.drive import LoadOptions, RunContext
    from lab.runs.judging import RunResult

_POLL_S = 0.1
_MOST_RUNS = 1_000
"""At the same time; a thread is made for each when it begins. By default there would be four more than cores."""


@dataclass(slots=True)
class Stretch:
    """One run of a caller.

    Attributes:
        answered: number of its requests that were answered so far.
        cancelled: whether the load was.
    """

    topology: str
    run: Future[RunResult]
    token: CancelToken
    answered: int = 0
    cancelled: bool = False

    def end(self) -> None:
        """Sends no more requests; those in flight finish."""
        self.token.cancel_once()

    def cancel(self) -> None:
        """The load was cancelled: the same once; the second time, those in flight are dropped. Call it under a lock."""
        if self.cancelled:
            self.token.cancel()
        else:
            self.cancelled = True
            self.end()


@dataclass(slots=True)
class _Mixture:
    """What the threads of all callers share."""

    folder: Path
    context: Callable[[], RunContext]
    progress: Callable[[Mapping[str, Progress]], None]
    cancel_token: CancelToken
    seen: dict[str, Progress] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def begin(self, options: LoadOptions, pool: ThreadPoolExecutor) -> Stretch:
        """Begins the run of a caller by a topology."""
        name = f"{options.topology}-{options.caller}"
        with self.lock:
            name = next(each for each in _numbered(name) if each not in self.names)
            self.names.append(name)

        def report(progress: Progress) -> None:
            stretch.answered = progress.ok
            with self.lock:
                self.seen[name] = progress
                self.progress(dict(self.seen))

        def run() -> RunResult:
            with self.cancel_token.notifying(stretch.cancel):
                return drive(options, self.context(), report, token, self.folder / name)

        token = CancelToken()
        stretch = Stretch(options.topology, Future(), token)
        stretch.run = pool.submit(run)
        return stretch


def drive_mixture(
    options: Sequence[LoadOptions],
    context: Callable[[], RunContext],
    used: Callable[[str], str],
    progress: Callable[[Mapping[str, Progress]], None],
    cancel_token: CancelToken,
) -> ParallelResult:
    """Drives callers at the same time, each by the topology that it uses, and returns the results of all their runs.

    Args:
        options: one for each caller; their topology is ignored.
        context: returns the lab as it is.
        used: returns the topology that a caller uses.
        progress: called with the progress of each run, by name; from several threads, one call at a time.
        cancel_token: ends all runs. On the main thread, Ctrl-C does the same.

    Raises:
        InputError: options do not fit the lab or its route table.
        UnitError: a driver failed; the other runs were ended. Their evidence is saved.
    """
    lab = context()
    mixture = _Mixture(new_run_folder(lab.runs), context, progress, cancel_token)
    create(mixture.folder)
    with ThreadPoolExecutor(_MOST_RUNS) as pool, ThreadPoolExecutor(len(options)) as callers:
        followed = [callers.submit(_follow, each, mixture, used, pool) for each in options]
        wait_for(followed, cancel_token)
    together = RunFolder(mixture.folder)
    together.together = mixture.names
    close(together, lab)
    return ParallelResult(mixture.folder, tuple(run for each in followed for run in each.result()))


def _follow(
    options: LoadOptions,
    mixture: _Mixture,
    used: Callable[[str], str],
    pool: ThreadPoolExecutor,
) -> list[RunResult]:
    """Drives one caller until its time is over, by the topology that it uses."""
    now = mixture.begin(replace(options, topology=used(options.caller)), pool)
    stretches, until = [now], time.monotonic() + options.duration_s
    try:
        while time.monotonic() < until and not mixture.cancel_token.cancelled and not now.run.done():
            if (topology := used(options.caller)) != now.topology:
                before, now = now, mixture.begin(replace(options, topology=topology), pool)
                stretches.append(now)
                while not (now.answered or now.run.done()):
                    wait([now.run], _POLL_S)
                before.end()
            wait([now.run], _POLL_S)
        if len(stretches) > 1:
            now.end()
        return [each.run.result() for each in stretches]
    except BaseException:
        mixture.cancel_token.cancel()
        raise


def _numbered(name: str) -> Iterator[str]:
    return (name if number == 1 else f"{name}-{number}" for number in count(1))
