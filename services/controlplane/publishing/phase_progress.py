"""How far a slow phase of a publish has come, reported while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from services.controlplane.registry.records import Phase

if TYPE_CHECKING:
    from services.controlplane.nodes.membership import Membership
    from services.controlplane.nodes.subscribers import Subscribers

# Shorter phases are not reported: a report would only slow them down.
_REPORT_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class PhaseProgress:
    """How far a phase has come.

    Attributes:
        phase: the phase that is reached when all have answered.
        done: how many have answered.
        total: how many there are.
        waiting_for: the others, and what each lacks.
    """

    phase: Phase
    done: int
    total: int
    waiting_for: tuple[str, ...]

    @classmethod
    def for_loading(cls, membership: Membership, needed: Mapping[str, frozenset[str]]) -> PhaseProgress:
        """The progress of replicas that load model versions."""
        missing = membership.missing(needed)
        total = membership.serving(membership.assignments)
        return cls(Phase.LOADED, max(0, total - len(missing)), total, tuple(missing))

    @classmethod
    def for_nodes(cls, phase: Phase, *awaited: tuple[Subscribers, int]) -> PhaseProgress:
        """The progress of nodes that apply a generation."""
        behind = [name for subscribers, generation in awaited for name in subscribers.behind(generation)]
        total = sum(len(subscribers) for subscribers, _ in awaited)
        return cls(phase, total - len(behind), total, tuple(behind))


Report: TypeAlias = Callable[[PhaseProgress], None]


async def reporting(work: Awaitable[Any], report: Report, progress: Callable[[], PhaseProgress]) -> None:
    """Waits for the work, and reports its progress every 100 ms."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=_REPORT_EVERY_S))[0]:
            report(progress())
        task.result()
    finally:
        task.cancel()
