"""Several control planes over one store: one leads a publish, the others follow it phase by phase.

Each carries out every phase for the nodes connected to it. The leader enters the next phase once all followers have
reported the present one to the store; followers enter it once the leader has recorded it. A follower that leaves is no
longer waited for: see ``docs/decisions/0018``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lab.errors import PublishError, RegistryError, StaleRevisionError
from services.controlplane.registry.records import ENDS, Acknowledgement, Event, Phase, StoredEvent

if TYPE_CHECKING:
    from services.controlplane.registry.revisions import Registry

log = logging.getLogger(__name__)

# Nodes of a dead control plane need a moment to reconnect to another; until then it still counts as a follower.
LOST_S = 2.0
_LOOK_EVERY_S = 0.25
_ASK_EVERY_S = 0.01


@dataclass(slots=True)
class Peers:
    """The other control planes of the same store.

    Attributes:
        registry: over that store.
        name: of this control plane; empty if it is the only one.
        latest: the latest revision that ended here.
    """

    registry: Registry
    name: str = ""
    latest: int = 0
    _seen: dict[str, float] = field(default_factory=dict)  # follower → when it was last seen, on the event loop's clock

    @property
    def seen(self) -> int | None:
        """The revision that the next one must directly follow; None skips the check."""
        return self.latest if self.name else None

    def expected(self) -> set[str]:
        """Names of the followers that are alive, or were a moment ago."""
        if not self.name:
            return set()
        now = asyncio.get_running_loop().time()
        self._seen.update(dict.fromkeys(self.registry.followers() - {self.name}, now))
        return {name for name, last in self._seen.items() if now - last < LOST_S}

    async def watch(self) -> None:
        """Keeps track of followers; runs until cancelled."""
        while True:
            with suppress(RegistryError):  # the follower's own loop logs it
                self.expected()
            await asyncio.sleep(_LOOK_EVERY_S)


@dataclass(slots=True)
class LeaderSync:
    """The side of the control plane that received the publish call.

    Attributes:
        record: stores an event and streams it to the caller.
    """

    peers: Peers
    revision: int
    record: Callable[..., None]

    async def others(self, phase: Phase, *, timeout_s: float) -> None:
        """Returns once the other control planes have reached this phase.

        Raises:
            PublishError: one of them failed or did not answer; says which, and why.
        """
        if not self.peers.expected():
            return
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            reports = self.peers.registry.reports(self.revision, phase)
            for name, error in reports.items():
                if error:
                    raise PublishError(f"{name}: {error}")
            missing = self.peers.expected() - reports.keys()
            if not missing:
                return
            if asyncio.get_running_loop().time() > deadline:
                names = ", ".join(sorted(missing))
                raise PublishError(f"no answer within {timeout_s:g} s from {names}: if it is frozen, resume or kill it")
            await asyncio.sleep(_ASK_EVERY_S)

    async def reached(self, phase: Phase, detail: str = "", acknowledgements: Sequence[Acknowledgement] = ()) -> None:
        """Reports that this control plane has reached a phase; returns once the publish may go on."""
        self.record(phase, detail, acknowledgements)


class FollowerSync:
    """The side of a control plane that follows a publish of the control plane named ``leader``."""

    def __init__(self, peers: Peers, revision: int, leader: str) -> None:
        self.revision, self.leader = revision, leader
        self._peers = peers
        self._phases: set[Phase] = set()
        self._changed = asyncio.Condition()
        self._phase = Phase.STORED

    async def happened(self, event: Event) -> None:
        """Takes in an event that the leader, or a follower in its place, recorded."""
        async with self._changed:
            self._phases.add(event.phase)
            self._changed.notify_all()

    async def others(self, phase: Phase, *, timeout_s: float) -> None:
        """Only announces to the leader that this one takes part; the leader waits for the others."""
        del timeout_s
        self._phase = phase
        if phase is Phase.STORED:
            self._peers.registry.report(self.revision, phase, self._peers.name)

    async def reached(self, phase: Phase, detail: str = "", acknowledgements: Sequence[Acknowledgement] = ()) -> None:
        """See :class:`LeaderSync`."""
        del detail
        self._peers.registry.report(self.revision, phase, self._peers.name, acknowledgements=acknowledgements)
        async with self._changed:
            await self._changed.wait_for(lambda: phase in self._phases or Phase.CONVERGED in self._phases)

    def failed(self, error: Exception) -> None:
        """Reports that this control plane cannot go on."""
        with suppress(RegistryError):  # the leader then times out, with the same effect
            self._peers.registry.report(self.revision, self._phase, self._peers.name, error=str(error))

    async def ended(self) -> Phase:
        """Returns whether the publish converged or failed; fails it if the leader is gone."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S), self._changed:
                    await self._changed.wait_for(lambda: not self._phases.isdisjoint(ENDS))
                    return Phase.CONVERGED if Phase.CONVERGED in self._phases else Phase.FAILED
            with suppress(RegistryError, StaleRevisionError):  # retried; another follower was first
                if self.leader not in self._peers.expected():
                    lost = f"control plane {self.leader} was lost during this publish"
                    self._peers.registry.record(self.revision, Phase.FAILED, lost)


PhaseSync = LeaderSync | FollowerSync
"""Keeps the phases of a publish in step between control planes."""


async def follow(
    peers: Peers, *, is_known: Callable[[int], bool], carry_out: Callable[[FollowerSync], Awaitable[None]]
) -> None:
    """Follows every publish that another control plane leads; runs until cancelled.

    Args:
        peers: all of them.
        is_known: whether a revision has ended here, or this process leads it.
        carry_out: carries a publish out in step with its leader.
    """
    registry = peers.registry
    after, peers.latest = registry.resume_at()
    syncs: dict[int, FollowerSync] = {}
    tasks: set[asyncio.Task[None]] = set()

    def begin(happened: StoredEvent) -> None:
        revision, leader = happened.revision, happened.event.detail
        if is_known(revision) or registry.has_failed(revision):
            peers.latest = max(peers.latest, revision)
            return
        syncs[revision] = FollowerSync(peers, revision, leader)
        task = asyncio.ensure_future(carry_out(syncs[revision]))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(lambda _: syncs.pop(revision))

    try:
        async for happened in registry.follow(peers.name, after):
            if happened.event.phase is Phase.STORED:
                begin(happened)
            elif happened.revision in syncs:
                await syncs[happened.revision].happened(happened.event)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
