"""What master and workers say to each other beside Locust's own words, over Locust's own connection."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

GO = "lab-go"
"""To workers: where the schedule begins, a :class:`lab.load.open_loop.Start`."""

STOP = "lab-stop"
"""To workers: send no more; by whom."""

PROGRESS = "lab-progress"
"""From workers, now and then: a :class:`WorkerProgress`."""

RESULT = "lab-result"
"""From workers, when they have sent all or were stopped: an :class:`lab.load.summary.ShardResult`."""

FAILED = "lab-failed"
"""From workers: the run cannot go on, and why."""


def on_message(runner: Any, word: str, do: Callable[[Any], object]) -> None:
    """Lets a runner of Locust's do something with what comes with a word."""

    def heard(*, environment: object, msg: Any) -> None:
        del environment
        do(msg.data)

    runner.register_message(word, heard)


@dataclass(frozen=True, slots=True)
class WorkerProgress:
    """How far a worker is.

    Attributes:
        index: which worker.
        sent: requests so far; the next likewise.
        recent_ns: latencies of what was done since its last word.
    """

    index: int
    sent: int
    done: int
    ok: int
    recent_ns: Sequence[int]

    def to_message(self) -> dict[str, Any]:
        """For Locust's connection."""
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
