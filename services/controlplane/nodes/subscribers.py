"""The subscribers of a stream, and the latest generation each has applied.

Every update has a generation, a growing number. Each subscriber acknowledges generations, so a publish can wait for one
and name the subscribers that lag. It waits for a bounded time, and then leaves those behind: see
``docs/decisions/0026``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from lab.clock import lab_time_ns
from lab.errors import PublishError
from lab.transport.xds import ROLE as PROXYLESS
from services.controlplane.registry.records import Acknowledgement

log = logging.getLogger(__name__)

# Steps remembered per node; a publish takes a few.
_REMEMBERED = 256


@dataclass(slots=True, eq=False)
class Subscriber:
    """One connected node.

    Attributes:
        node: its name, e.g. ``homepage-sidecar``.
        role: ``sidecar``, ``central-envoy``, ``proxyless``, ``resolver`` or ``gateway``.
        applied: every generation up to this one is in force there.
        refused: the generation that it refused last, 0 if none.
        error: why it refused, or that it did not answer in time; empty once it has applied a later one.
        wake: set when there may be something to send.
        left_behind: generation that it refused or did not apply in time, so that publishes no longer wait for it; 0 if
            they do.
        is_cut: whether its stream was ended because it refused.
        is_silent: whether it did not answer the last publish that waited for it, nor since.
        holds_state: whether it came with resources from an earlier stream.
        clusters: number of clusters that an Envoy holds.
        clusters_left: number of clusters that left an Envoy because it did not use them.
        now_ns: the clock, Unix nanoseconds; :class:`Subscribers` sets its own.
    """

    node: str
    role: str
    applied: int = 0
    refused: int = 0
    error: str = ""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    left_behind: int = 0
    is_cut: bool = False
    is_silent: bool = False
    holds_state: bool = False
    clusters: int = 0
    clusters_left: int = 0
    now_ns: Callable[[], int] = lab_time_ns
    _steps: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def has_applied(self, generation: int) -> None:
        """Marks every generation up to this one as in force there; a later resubscription revokes none of it."""
        if self.left_behind and generation >= self.left_behind:
            self.left_behind, self.error = 0, ""
            log.warning("%s has caught up", self.title)
        if generation > self.applied:
            self.is_silent = False
            self._steps.append((generation, self.now_ns()))
            self.applied = generation

    @property
    def title(self) -> str:
        """Its role and name."""
        return f"{self.role} {self.node}"

    @property
    def is_behind(self) -> bool:
        """Whether it refused the latest update, or did not answer."""
        return bool(self.left_behind or self.error)

    def holds_earlier_state(self) -> None:
        """Marks the node as holding resources from an earlier stream, which may be of any generation."""
        self.applied, self.holds_state = 0, True

    def applied_at_ns(self, generation: int) -> int | None:
        """When it came into force there, Unix nanoseconds; None if it has not, 0 if that is no longer remembered."""
        if self.applied < generation:
            return None
        if len(self._steps) == _REMEMBERED and self._steps[0][0] >= generation:
            return 0
        return next((at_ns for applied, at_ns in self._steps if applied >= generation), 0)


class Subscribers:
    """The connected nodes of one kind of stream.

    Args:
        now_ns: the clock, Unix nanoseconds.

    Attributes:
        generation: the latest published one.
        leaves_silent_behind: whether a publish goes on without nodes that do not answer in time. If false, such a node
            makes the publish fail, unless its decisions can be refused.
        away: nodes of the lab's own that are behind and not connected, by name, until they are back.
        gone: all nodes of the lab's own that have left, likewise.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self.generation = 0
        self.leaves_silent_behind = False
        self.away: dict[str, Subscriber] = {}
        self.gone: dict[str, Subscriber] = {}
        self._now_ns = now_ns
        self._connected: set[Subscriber] = set()
        self._progress = asyncio.Condition()
        self._revision_marks: list[tuple[int, int, Callable[[Subscriber], bool]]] = []

    def __iter__(self) -> Iterator[Subscriber]:
        return iter(self._connected)

    def __len__(self) -> int:
        return len(self._connected)

    def add(self, subscriber: Subscriber) -> None:
        """Adds a node that connected."""
        subscriber.now_ns = self._now_ns
        self.gone.pop(subscriber.node, None)
        if before := self.away.pop(subscriber.node, None):
            subscriber.error = before.error  # until it has applied the present state
        self._connected.add(subscriber)

    async def discard(self, subscriber: Subscriber) -> None:
        """Removes a node that disconnected; no publish waits for it any longer."""
        if subscriber in self._connected and subscriber.is_behind and subscriber.role != PROXYLESS:
            self.away[subscriber.node] = subscriber
        self._connected.discard(subscriber)
        if subscriber.role != PROXYLESS and all(each.node != subscriber.node for each in self._connected):
            self.gone[subscriber.node] = subscriber
        await self.notify_progress()

    def next_generation(self) -> int:
        """Increments the generation; call it before making the change visible."""
        self.generation += 1
        return self.generation

    def wake_all(self) -> None:
        """Wakes every node's stream."""
        for subscriber in self._connected:
            subscriber.wake.set()

    def mark_revision(self, revision: int, holds: Callable[[Subscriber], bool] = lambda _: True) -> None:
        """Records that the nodes for which ``holds`` is true hold this revision once they apply this generation."""
        self._revision_marks = [*self._revision_marks[-63:], (self.generation, revision, holds)]

    def revision_applied_by(self, subscriber: Subscriber) -> int:
        """The latest revision that the node holds completely; 0 if none that is remembered."""
        marks = reversed(self._revision_marks)
        return next((r for marked, r, holds in marks if marked <= subscriber.applied and holds(subscriber)), 0)

    @property
    def _concerned(self) -> list[Subscriber]:
        """The connected nodes that are to hold the revision marked last."""
        return [each for each in self._connected if not self._revision_marks or self._revision_marks[-1][2](each)]

    def acknowledgements(self, generation: int, sent_ns: int) -> list[Acknowledgement]:
        """Nodes that applied a generation sent at that time; those that held it already count from the sending."""
        return [
            Acknowledgement(each.node, each.role, sent_ns, max(at_ns, sent_ns))
            for each in sorted(self._concerned, key=lambda each: each.node)
            if (at_ns := each.applied_at_ns(generation)) is not None
        ]

    def behind(self, generation: int) -> list[str]:
        """Names of the nodes that have not applied a generation, and are not left behind."""
        return sorted(each.title for each in self._behind(generation))

    @property
    def late(self) -> list[Subscriber]:
        """The nodes that are connected and left behind."""
        return [each for each in self._connected if each.left_behind]

    @property
    def behind_by_now(self) -> list[Subscriber]:
        """The nodes that are behind, connected or not, by name."""
        late = [each for each in self._connected if each.is_behind]
        return sorted([*late, *self.away.values()], key=lambda each: each.node)

    async def notify_progress(self) -> None:
        """Wakes those who wait for a node's state to change."""
        async with self._progress:
            self._progress.notify_all()

    async def answers(self, generation: int, nodes: Collection[str], *, timeout_s: float) -> list[Subscriber]:
        """These nodes, once each has applied or refused the generation or disconnected, or at the timeout."""

        def found() -> list[Subscriber]:
            return [each for each in self._connected if each.node in nodes]

        def settled() -> bool:
            return all(max(each.applied, each.refused) >= generation for each in found())

        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._progress:
                await self._progress.wait_for(settled)
        return found()

    async def has(self, node: str, generation: int) -> None:
        """Returns once a node of this name is connected and has applied the generation."""
        async with self._progress:
            await self._progress.wait_for(
                lambda: any(each.node == node and each.applied >= generation for each in self._connected)
            )

    async def wait_applied(
        self,
        generation: int,
        *,
        timeout_s: float,
        again: bool = False,
        may_be_silent: Callable[[Subscriber], bool] = lambda _: False,
    ) -> None:
        """Returns once every connected node has applied the generation, or was left behind.

        Left behind are nodes that refuse what others applied; silent ones that may be so if others applied it, or any
        where :attr:`leaves_silent_behind`. Later publishes do not wait for them until they have caught up. With
        ``again``, nodes that were just silent are not waited for once more.

        Raises:
            PublishError: a node did not answer in time, or each of the lab's own nodes that answered refused; names the
                nodes and their reasons.
        """

        def settled() -> bool:
            late = self._behind(generation)
            return all(each.refused >= generation or (again and each.is_silent) for each in late)

        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._progress:
                await self._progress.wait_for(settled)
        late = self._behind(generation)
        # One that has applied nothing since it refused still gives that reason, if it was sent nothing new.
        refusing = [each for each in late if each.refused > each.applied]
        silent = [each for each in late if each not in refusing]
        for each in silent:
            each.error, each.is_silent = f"no answer within {timeout_s:g} s", True
        # A caller's own nodes cannot say that a revision is bad: they speak for that caller alone.
        own = [each for each in self._concerned if each.role != PROXYLESS and not each.left_behind]
        applied_by_none = bool(own) and all(each in late for each in own)
        is_bad = applied_by_none and any(each in refusing for each in own)
        stops = [
            each for each in silent if not self.leaves_silent_behind and (applied_by_none or not may_be_silent(each))
        ]
        if is_bad or stops:
            reasons = [f"{each.title} refused: {each.error}" for each in refusing]
            if stops:
                names = ", ".join(sorted(each.title for each in stops))
                reasons.append(f"no answer within {timeout_s:g} s from {names}")
            raise PublishError("; ".join(sorted(reasons)))
        for each in late:
            each.left_behind = generation
            log.warning("%s is left behind: %s", each.title, each.error)

    async def cut_off(self, nodes: Collection[Subscriber], *, timeout_s: float) -> None:
        """Ends the streams of nodes, and returns once each is back: it then holds nothing from before.

        Raises:
            PublishError: one does not come back in time.
        """
        for each in nodes:
            self._connected.discard(each)
            each.is_cut, self.away[each.node] = True, each
            each.wake.set()
        names = {each.node for each in nodes}
        try:
            async with asyncio.timeout(timeout_s), self._progress:
                await self._progress.wait_for(lambda: names.isdisjoint(self.away))
        except TimeoutError:
            missing = (each for each in nodes if each.node in self.away)
            reasons = "; ".join(sorted(f"{each.title} refused: {each.error}" for each in missing))
            raise PublishError(f"{reasons}; it has not dropped its rules within {timeout_s:g} s") from None

    def _behind(self, generation: int) -> list[Subscriber]:
        return [each for each in self._connected if each.applied < generation and not each.left_behind]
