"""Who receives what the control plane publishes, and how far each has come.

Everything published has a generation, a number that grows. Each subscriber says which generations it has applied, so
that a publish can wait for the last of them, and name it if it does not answer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lab.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True, eq=False)
class Subscriber:
    """One connected node.

    Attributes:
        node: its name, e.g. ``homepage-sidecar``.
        role: ``sidecar``, ``resolver`` or ``gateway``.
        applied: every generation up to this one is in force there.
        refused: generation that it refused last, 0 if none.
        error: why it refused; empty once it has applied a later one.
        wake: set when there may be something to send.
    """

    node: str
    role: str
    applied: int = 0
    refused: int = 0
    error: str = ""
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Subscribers:
    """The connected nodes of one kind of stream.

    Attributes:
        generation: the latest that was published.
    """

    def __init__(self) -> None:
        self.generation = 0
        self._connected: set[Subscriber] = set()
        self._progress = asyncio.Condition()
        self._revision_marks: list[tuple[int, int]] = []

    def __iter__(self) -> Iterator[Subscriber]:
        return iter(self._connected)

    def add(self, subscriber: Subscriber) -> None:
        """A node has connected."""
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

    async def notify_progress(self) -> None:
        """A subscriber's state has changed."""
        async with self._progress:
            self._progress.notify_all()

    async def wait_applied(self, generation: int, *, timeout_s: float) -> None:
        """Returns once every connected node has applied the generation.

        Raises:
            PublishError: a node refused it, or did not answer in time; names the node and its reason.
        """

        def settled() -> bool:
            return any(each.refused >= generation for each in self._connected) or not self._behind(generation)

        try:
            async with self._progress:
                await asyncio.wait_for(self._progress.wait_for(settled), timeout_s)
        except TimeoutError:
            names = ", ".join(sorted(f"{each.role} {each.node}" for each in self._behind(generation)))
            raise PublishError(f"no answer within {timeout_s:g} s from {names}") from None
        for each in self._connected:
            if each.refused >= generation:
                raise PublishError(f"{each.role} {each.node} refused: {each.error}")

    def _behind(self, generation: int) -> list[Subscriber]:
        return [each for each in self._connected if each.applied < generation]
