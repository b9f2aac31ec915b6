"""The adapters (LoRA) that a replica has loaded: a few at once, the one that has been unused for longest goes first."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager


class Slot:
    """Memory for one adapter.

    Attributes:
        weights: name of the adapter whose weights are there.
        evicted: the adapter that made room for it; empty if there was room.
        users: requests that use it, or wait until it is loaded.
        loaded_at: when it is loaded, by the time of the event loop, seconds.
    """

    __slots__ = ("evicted", "loaded_at", "users", "weights")

    def __init__(self) -> None:
        self.weights = self.evicted = ""
        self.users, self.loaded_at = 0, 0.0


class Adapters:
    """The adapters of one replica.

    Args:
        capacity: adapters that it holds at once; 0 for any number, which then take no time to load.
        load_s: time to load one, seconds.
    """

    def __init__(self, capacity: int, load_s: float) -> None:
        self.capacity = capacity
        self._load_s = load_s
        self._slots: OrderedDict[str, Slot] = OrderedDict()
        self._asked: Counter[str] = Counter()
        self._blocked: list[asyncio.Future[None]] = []

    @property
    def loaded(self) -> list[str]:
        """Adapters that are loaded or being loaded."""
        return [*self._slots]

    @property
    def running(self) -> list[str]:
        """Those of them that requests use."""
        return [name for name, slot in self._slots.items() if slot.users]

    @property
    def waiting(self) -> list[str]:
        """Adapters that requests wait for, in the queue or for a slot."""
        return [name for name in self._asked if name not in self._slots] if self.capacity else []

    @contextmanager
    def asked(self, name: str) -> Iterator[None]:
        """A request for the adapter is here while the context lasts."""
        self._asked[name] += bool(name)
        try:
            yield
        finally:
            self._asked[name] -= bool(name)
            if not self._asked[name]:
                del self._asked[name]

    @asynccontextmanager
    async def use(self, name: str, has_slot: Callable[[Slot, bool], None]) -> AsyncIterator[str]:
        """Waits until an adapter is loaded; yields the name of the adapter whose weights are used.

        Args:
            name: of the adapter; empty for none.
            has_slot: called once it has a slot, with it and whether its load begins.
        """
        if not name or not self.capacity:
            yield name
            return
        loop = asyncio.get_running_loop()
        while (found := self._slot(name)) is None:
            self._blocked.append(loop.create_future())
            await self._blocked[-1]
        slot, loads = found
        slot.users += 1
        has_slot(slot, loads)
        if loads:
            slot.loaded_at = loop.time() + self._load_s
        try:
            if (left_s := slot.loaded_at - loop.time()) > 0:
                await asyncio.sleep(left_s)
            yield slot.weights
        finally:
            slot.users -= 1
            self._slots.move_to_end(name)
            blocked, self._blocked = self._blocked, []
            for each in blocked:
                if not each.done():
                    each.set_result(None)

    def _slot(self, name: str) -> tuple[Slot, bool] | None:
        """The adapter's slot, and whether its load begins now; None while requests use all slots."""
        if (slot := self._slots.get(name)) is not None:
            return slot, False
        if len(self._slots) < self.capacity:
            slot = Slot()
        elif unused := next((each for each, its in self._slots.items() if not its.users), ""):
            slot = self._slots.pop(unused)
            slot.evicted = unused
        else:
            return None
        slot.weights = name
        self._slots[name] = slot
        return slot, True
