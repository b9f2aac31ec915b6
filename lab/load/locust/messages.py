"""Messages between master and workers, over Locust's own connection."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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


@dataclass(frozen=True, slots=True)
class WorkerProgress:
    """A worker's progress.

    Attributes:
        index: of the worker.
        sent: requests so far; the next likewise.
        recent_ns: latencies of the requests done since the previous message.
    """

    index: int
    sent: int
    done: int
    ok: int
    recent_ns: Sequence[int]

    def to_message(self) -> dict[str, Any]:
        """As a Locust message."""
        return {
            "index": self.index,
            "sent": self.sent,
            "done": self.done,
            "ok": self.ok,
            "recent_ns": array("q", self.recent_ns).tobytes(),
        }

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> WorkerProgress:
        """The inverse of :meth:`to_message`."""
        return cls(**{**message, "recent_ns": array("q", message["recent_ns"])})
