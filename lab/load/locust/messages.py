"""Messages between master and workers, over Locust's own connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GO = "lab-go"
"""To workers: the start of the schedule, a :class:`lab.load.open_loop.Start`."""

STOP = "lab-stop"
"""To workers: stop sending; carries who asked."""

PROGRESS = "lab-progress"
"""From workers, at intervals: a :class:`WorkerProgress`."""

RESULT = "lab-result"
"""From workers, at the end: a :class:`lab.load.summary.ShardResult`."""

FAILED = "lab-failed"
"""From workers: the reason why the run cannot go on."""


def on_message(runner: Any, word: str, do: Callable[[Any], object]) -> None:
    """Calls a function with the data of each message of this name that a Locust runner receives."""

    def heard(*, environment: object, msg: Any) -> None:
        del environment
        do(msg.data)

    runner.register_message(word, heard)


class WorkerProgress(NamedTuple):
    """A worker's progress.

    Attributes:
        worker: its index.
        sent: requests so far; the next likewise.
        recent_ns: latencies of the requests done since the previous message.
    """

    worker: int
    sent: int
    done: int
    ok: int
    recent_ns: Sequence[int]
