"""Several control planes that serve the revisions of one store: one leads a publish, the others follow it in step.

Each carries every phase out for the nodes that are connected to it. The leader goes on to the next once all others have
reported the phase to the store; they go on once it has recorded it there. Who does not follow the store any more is
waited for no longer: see ``docs/decisions/0018``.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from lab.errors import PublishError, RegistryError, StaleRevisionError
from services.controlplane.registry.store import Event, Phase

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from services.controlplane.registry.revisions import Registry
    from services.controlplane.registry.store import Acknowledgement, StoredEvent

log = logging.getLogger(__name__)

# The nodes of a control plane that has gone need a moment to come to another one; until then they count as its.
LOST_S = 2.0
_LOOK_EVERY_S = 0.25
_ASK_EVERY_S = 0.01

ENDS = (Phase.CONVERGED, Phase.FAILED)


class PhaseSync(Protocol):
    """How the phases of a publish are kept in step."""

    async def others(self, phase: Phase, *, timeout_s: float) -> None:
        """Returns once the other control planes have got as far as this phase.

        Raises:
            PublishError: one of them has not; says which, and why.
        """

    async def reached(self, phase: Phase, detail: str = "", acknowledgements: Sequence[Acknowledgement] = ()) -> None:
        """This control plane has got so far; returns once the publish may go on."""


@dataclass(slots=True)
class Peers:
    """The other control planes of the same store.

    Attributes:
        registry: of that store.
        name: of this one; empty if it is alone.
        latest: the latest revision that has come to its end here.
    """

    registry: Registry
    name: str = ""
    latest: int = 0
    _seen: dict[str, float] = field(default_factory=dict)  # when it followed last, by the event loop's clock

    @property
    def seen(self) -> int | None:
        """The revision that one which is stored now must come after; None for whichever it is."""
        return self.latest if self.name else None

    def awaited(self) -> set[str]:
        """Names of those that follow, or did so a moment ago."""
        if not self.name:
            return set()
        now = asyncio.get_running_loop().time()
        self._seen.update(dict.fromkeys(self.registry.followers() - {self.name}, now))
        return {name for name, last in self._seen.items() if now - last < LOST_S}

    async def watch(self) -> None:
        """Sees who comes and goes; runs for ever."""
        while True:
            with suppress(RegistryError):  # the follower says so
                self.awaited()
            await asyncio.sleep(_LOOK_EVERY_S)


@dataclass(slots=True)
class LeaderSync:
    """The course of a publish by the control plane that was asked for it.

    Attributes:
        peers: who is to follow.
        revision: that is published.
        record: stores what became of it, and says so to whoever watches.
    """

    peers: Peers
    revision: int
    record: Callable[..., None]

    async def others(self, phase: Phase, *, timeout_s: float) -> None:
        """See :class:`PhaseSync`."""
        if not self.peers.awaited():
            return
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            reports = self.peers.registry.reports(self.revision, phase)
            for name, error in reports.items():
                if error:
                    raise PublishError(f"{name}: {error}")
            missing = self.peers.awaited() - reports.keys()
            if not missing:
                return
            if asyncio.get_running_loop().time() > deadline:
                names = ", ".join(sorted(missing))
                raise PublishError(f"no answer within {timeout_s:g} s from {names}: is it frozen? kill it, or wake it")
            await asyncio.sleep(_ASK_EVERY_S)

    async def reached(self, phase: Phase, detail: str = "", acknowledgements: Sequence[Acknowledgement] = ()) -> None:
        """See :class:`PhaseSync`."""
        self.record(phase, detail, acknowledgements)


class FollowerSync:
    """The course of a publish that another control plane leads.

    Args:
        peers: who leads it, and who follows.
        revision: that is published.
        leader: its name.
    """

    def __init__(self, peers: Peers, revision: int, leader: str) -> None:
        self.revision, self.leader = revision, leader
        self._peers = peers
        self._phases: set[Phase] = set()
        self._changed = asyncio.Condition()
        self._phase = Phase.STORED

    async def happened(self, event: Event) -> None:
        """The leader, or whoever ends it in its place, has recorded this."""
        async with self._changed:
            self._phases.add(event.phase)
            self._changed.notify_all()

    async def others(self, phase: Phase, *, timeout_s: float) -> None:
        """See :class:`PhaseSync`: that is the leader's business, who is told that this one takes part."""
        del timeout_s
        self._phase = phase
        if phase is Phase.STORED:
            self._peers.registry.report(self.revision, phase, self._peers.name)

    async def reached(self, phase: Phase, detail: str = "", acknowledgements: Sequence[Acknowledgement] = ()) -> None:
        """See :class:`PhaseSync`."""
        del detail
        self._peers.registry.report(self.revision, phase, self._peers.name, acknowledgements=acknowledgements)
        async with self._changed:
            await self._changed.wait_for(lambda: phase in self._phases or Phase.CONVERGED in self._phases)

    def failed(self, error: Exception) -> None:
        """This control plane does not get any further."""
        with suppress(RegistryError):  # then it is not heard of in time, which comes to the same
            self._peers.registry.report(self.revision, self._phase, self._peers.name, error=str(error))

    async def ended(self) -> Phase:
        """How the publish has ended: converged or failed; ends it itself if its leader is gone."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S), self._changed:
                    await self._changed.wait_for(lambda: not self._phases.isdisjoint(ENDS))
                    return Phase.CONVERGED if Phase.CONVERGED in self._phases else Phase.FAILED
            with suppress(RegistryError, StaleRevisionError):  # it is tried again; another one was sooner
                if self.leader not in self._peers.awaited():
                    lost = f"control plane {self.leader} was lost during this publish"
                    self._peers.registry.record(self.revision, Phase.FAILED, lost)


async def follow(
    peers: Peers, *, is_known: Callable[[int], bool], carry_out: Callable[[FollowerSync], Awaitable[None]]
) -> None:
    """Carries out here whatever other control planes publish; runs for ever.

    Args:
        peers: with this one's name.
        is_known: whether a revision has come to its end here, or is published by this control plane in this life.
        carry_out: carries one out, in step with its leader, and remembers that it has come to its end.
    """
    registry = peers.registry
    after, peers.latest = registry.resume_at()
    courses: dict[int, FollowerSync] = {}
    tasks: set[asyncio.Task[None]] = set()

    def begin(happened: StoredEvent) -> None:
        revision, leader = happened.revision, happened.event.detail
        if is_known(revision) or registry.has_failed(revision):
            peers.latest = max(peers.latest, revision)
            return
        courses[revision] = FollowerSync(peers, revision, leader)
        task = asyncio.ensure_future(carry_out(courses[revision]))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(lambda _: courses.pop(revision))

    try:
        async for happened in registry.follow(peers.name, after):
            if happened.event.phase is Phase.STORED:
                begin(happened)
            elif happened.revision in courses:
                await courses[happened.revision].happened(happened.event)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
