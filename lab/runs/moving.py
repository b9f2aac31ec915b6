"""Moves callers to another topology while they send: the steps of a migration, one caller at a time or all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from operator import le
from typing import TYPE_CHECKING

from lab.runtime.cancellation import CancelToken
from lab.waiting import eventually

if TYPE_CHECKING:
    from lab.load.progress import Progress
    from lab.runs.drive import LoadOptions
    from lab.runs.parallel import ParallelResult

ANSWERED = 5
"""Answers by the new topology until a caller counts as moved."""
MOVED_WITHIN = timedelta(seconds=60)


class Moves:
    """Callers that send, each by the topology that it uses; :func:`moving` makes one."""

    def __init__(
        self,
        use: Callable[[str, Sequence[str]], object],
        callers: Sequence[str],
        seen: Mapping[str, Progress],
        driven: Future[ParallelResult],
    ) -> None:
        self._use, self._callers, self._seen, self._driven = use, callers, seen, driven

    @property
    def result(self) -> ParallelResult:
        """Of all their runs; waits until they have ended."""
        return self._driven.result()

    def to(self, topology: str, *callers: str) -> None:
        """Moves callers, all if none is named, and returns when the topology answers each of them.

        Raises:
            DeadlineError: one is not answered within :data:`MOVED_WITHIN`.
            LabError: a driver failed.
        """
        moved = callers or self._callers
        before = {each: self._answers(topology, each) for each in moved}
        self._use(topology, moved)
        for each, count in before.items():
            eventually(
                f"{each} is answered by {topology}",
                partial(self._answers, topology, each),
                within=MOVED_WITHIN,
                until=partial(le, count + ANSWERED),
            )

    def _answers(self, topology: str, caller: str) -> int:
        """Answers that a topology has given a caller, in all its runs."""
        if self._driven.done():
            self._driven.result()  # raises what ended it
        name = f"{topology}-{caller}"
        return sum(each.ok for run, each in list(self._seen.items()) if run == name or run.startswith(f"{name}-"))


@contextmanager
def moving(
    drive: Callable[..., ParallelResult], use: Callable[[str, Sequence[str]], object], options: Sequence[LoadOptions]
) -> Iterator[Moves]:
    """Callers send while the body runs, first all by the topology that the options name.

    Args:
        drive: :meth:`lab.lab.Lab.load_mixture` of a lab.
        use: ``lab.callers.use`` of the same lab.
        options: one for each caller, all of the same topology.
    """
    start, callers, token = options[0].topology, [each.caller for each in options], CancelToken()
    seen: dict[str, Progress] = {}
    use(start, callers)
    with ThreadPoolExecutor(1) as pool:
        driven = pool.submit(drive, options, progress=seen.update, cancel_token=token)
        moves = Moves(use, callers, seen, driven)
        try:
            moves.to(start)
            yield moves
        finally:
            token.cancel()
        driven.result()  # raises what ended it
