"""Who receives what the control plane publishes, and how far each has come.

Everything published has a generation, a number that grows. Each subscriber says which generations it has applied, so
that a publish can wait for the last of them, and name it if it does not answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lab.errors import PublishError
from services.controlplane.registry.store import Acknowledgement

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator


log = logging.getLogger(__name__)

# So many steps of a node are remembered; a publish takes a few.
_REMEMBERED = 256


@dataclass(slots=True, eq=False)
class Subscriber:
    """One connected node.

    Attributes:
        node: its name, e.g. ``homepage-sidecar``.
        role: ``sidecar``, ``central-envoy``, ``proxyless``, ``resolver`` or ``gateway``.
        applied: every generation up to this one is in force there.
        refused: generation that it refused last, 0 if none.
        error: why it refused; empty once it has applied a later one.
        wake: set when there may be something to send.
        left_behind: generation that it did not apply in time, and that publishes went on without; 0 if it keeps up.
        clusters: of an Envoy, those that it holds because it has asked for them.
        clusters_left: of these, how many have left it since it connected, as nobody used them.
        now_ns: the clock, Unix nanoseconds; that of all subscribers once it is one of them.
    """

    node: str
    role: str
    applied: int = 0
    refused: int = 0
    error: str = ""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    left_behind: int = 0
    clusters: int = 0
    clusters_left: int = 0
    now_ns: Callable[[], int] = time.time_ns
    _steps: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def has_applied(self, generation: int) -> None:
        """Every generation up to this one is in force there as of now; what it asks for later takes back none of it."""
        if self.left_behind and generation >= self.left_behind:
            self.left_behind, self.error = 0, ""
            log.warning("%s %s has caught up", self.role, self.node)
        if generation > self.applied:
            self._steps.append((generation, self.now_ns()))
            self.applied = generation

    def has_brought(self) -> None:
        """It holds something from before it came, which may be of any generation."""
        self.applied = 0

    def applied_at_ns(self, generation: int) -> int | None:
        """Since when it has been in force there, Unix nanoseconds; 0 if for longer than is remembered, None if not."""
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
        generation: the latest that was published.
        leaves_behind: whether a node that does not answer in time is waited for no more, until it has caught up. Its
            callers may then act on what is no longer in force. Otherwise it makes publishes fail.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self.generation = 0
        self.leaves_behind = False
        self._now_ns = now_ns
        self._connected: set[Subscriber] = set()
        self._progress = asyncio.Condition()
        self._revision_marks: list[tuple[int, int]] = []

    def __iter__(self) -> Iterator[Subscriber]:
        return iter(self._connected)

    def __len__(self) -> int:
        return len(self._connected)

    def add(self, subscriber: Subscriber) -> None:
        """A node has connected."""
        subscriber.now_ns = self._now_ns
        self._connected.add(subscriber)

    async def discard(self, subscriber: Subscriber) -> None:
        """A node has gone; nobody waits for it any longer."""
        self._connected.discard(subscriber)
        await self.notify_progress()

    def next_generation(self) -> int:
        """Counts on, before the change is made visible."""
        self.generation += 1
        return self.generation

    def wake_all(self) -> None:
        """There is something new to send."""
        for subscriber in self._connected:
            subscriber.wake.set()

    def mark_revision(self, revision: int) -> None:
        """From the present generation on, a node holds this revision."""
        self._revision_marks = [*self._revision_marks[-63:], (self.generation, revision)]

    def revision_applied_by(self, subscriber: Subscriber) -> int:
        """Latest revision that the node holds wholly; 0 if none that is still remembered."""
        return next((r for generation, r in reversed(self._revision_marks) if generation <= subscriber.applied), 0)

    def acknowledgements(self, generation: int, sent_ns: int) -> list[Acknowledgement]:
        """Who has applied a generation that was sent at that time; who held all of it before counts from then."""
        return [
            Acknowledgement(each.node, each.role, sent_ns, max(at_ns, sent_ns))
            for each in sorted(self._connected, key=lambda each: each.node)
            if (at_ns := each.applied_at_ns(generation)) is not None
        ]

    def behind(self, generation: int) -> list[str]:
        """Names of those that have not applied it."""
        return sorted(f"{each.role} {each.node}" for each in self._behind(generation))

    async def notify_progress(self) -> None:
        """A subscriber's state has changed."""
        async with self._progress:
            self._progress.notify_all()

    async def answers(self, generation: int, nodes: Collection[str], *, timeout_s: float) -> list[Subscriber]:
        """These nodes, once each has applied the generation or refused it, or is gone, or the time is up."""

        def found() -> list[Subscriber]:
            return [each for each in self._connected if each.node in nodes]

        def settled() -> bool:
            return all(max(each.applied, each.refused) >= generation for each in found())

        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._progress:
                await self._progress.wait_for(settled)
        return found()

    async def wait_applied(self, generation: int, *, timeout_s: float) -> None:
        """Returns once every connected node has applied the generation.

        Raises:
            PublishError: a node refused it, or did not answer in time; names the node and its reason.
        """

        def settled() -> bool:
            return any(each.refused >= generation for each in self._connected) or not self._behind(generation)

        try:
            async with asyncio.timeout(timeout_s), self._progress:
                await self._progress.wait_for(settled)
        except TimeoutError:
            if self.leaves_behind:
                self._leave_behind(generation)
                return
            names = ", ".join(self.behind(generation))
            raise PublishError(f"no answer within {timeout_s:g} s from {names}") from None
        for each in self._connected:
            if each.refused >= generation:
                raise PublishError(f"{each.role} {each.node} refused: {each.error}")

    def _leave_behind(self, generation: int) -> None:
        for each in self._behind(generation):
            each.left_behind = generation
            each.error = "left behind: it does not answer"
            log.warning("%s %s is left behind: it does not answer", each.role, each.node)

    def _behind(self, generation: int) -> list[Subscriber]:
        return [each for each in self._connected if each.applied < generation and not each.left_behind]
