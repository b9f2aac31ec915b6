"""What a publish says of itself while a phase takes its time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from services.controlplane.store import Phase

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from services.controlplane.membership import Assignment, Membership
    from services.controlplane.subscribers import Subscribers

# A phase that is through sooner is not worth a word, and words would make it slower.
_TELL_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Waiting:
    """How far a phase has come.

    Attributes:
        phase: what will have been reached.
        done: how many have answered.
        total: of how many.
        waiting_for: who has not, and what is lacking.
    """

    phase: Phase
    done: int
    total: int
    waiting_for: tuple[str, ...]

    @classmethod
    def for_loading(cls, membership: Membership, needed: Mapping[str, Assignment]) -> Waiting:
        """Replicas that are to load something."""
        missing = membership.missing(needed)
        total = membership.serving(needed.keys())
        return cls(Phase.LOADED, max(0, total - len(missing)), total, tuple(missing))

    @classmethod
    def for_nodes(cls, phase: Phase, *awaited: tuple[Subscribers, int]) -> Waiting:
        """Nodes that are to apply a generation."""
        behind = [name for subscribers, generation in awaited for name in subscribers.behind(generation)]
        total = sum(len(subscribers) for subscribers, _ in awaited)
        return cls(phase, total - len(behind), total, tuple(behind))


Tell: TypeAlias = Callable[[Waiting], None]


async def told(work: Awaitable[Any], tell: Tell, look: Callable[[], Waiting]) -> None:
    """Waits for the work, and tells every now and then what it is waiting for."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=_TELL_EVERY_S))[0]:
            tell(look())
        task.result()
    finally:
        task.cancel()
