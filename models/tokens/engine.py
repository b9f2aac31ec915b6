"""The engine of a token model: its queue, the requests that run, and a journal of both and of the blocks used."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import orjson

from lab.clock import lab_time_ns
from models.tokens.adapters import Adapters, Slot
from models.tokens.blocks import BLOCK, BlockCache, chain
from models.tokens.kv_events import KvEvents

if TYPE_CHECKING:
    from models.proto.generation.v1 import generation_pb2
    from models.tokens.settings import TokenSettings

KEPT = 50_000
"""Requests of which the journal knows."""

PREFILL = "prefill"
"""In the journal, the work of a request that was prefilled for another replica."""


class FullError(Exception):
    """The queue is full; the message says how full."""


class Prefilled(NamedTuple):
    """Where a request was to be prefilled, ``ip:port``, and why it was not; both empty for most."""

    at: str = ""
    failure: str = ""

    @property
    def elsewhere(self) -> bool:
        """Whether another replica has prefilled it."""
        return bool(self.at and not self.failure)


NOT = Prefilled()
"""Of a request that its replica prefills itself."""


class Entry:
    """What the journal has of one request; times are Unix nanoseconds.

    The numbers ``arrived``, ``began`` and ``ended`` are places in the order of all events of this engine; 0 for what
    has not happened. ``waiting`` and ``running`` are what it found when it arrived. Its adapter had a slot at
    ``slot``; ``loads`` says whether its load began then, and ``evicted`` which adapter made room. It was loaded at
    ``loaded_ns``. ``work`` is :data:`PREFILL` or empty. ``prefiller`` is the replica that it was to be prefilled at,
    and ``fell_back`` why it was not, so that this replica did it; both are empty for most.
    """

    __slots__ = (
        *("arrived", "arrived_ns", "began", "began_ns", "cached", "ended", "hashes", "lora", "prompt", "request_id"),
        *("evicted", "loaded_ns", "loads", "running", "shed", "slot", "slot_ns", "tenant", "waiting"),
        *("fell_back", "prefiller", "work"),
    )

    def __init__(self, request: generation_pb2.GenerateRequest, work: str = "", prefilled: Prefilled = NOT) -> None:
        self.request_id, self.tenant = request.envelope.request_id, request.envelope.context.tenant
        self.lora, self.prompt = request.lora, len(request.prompt)
        self.arrived = self.began = self.ended = self.arrived_ns = self.began_ns = self.cached = 0
        self.waiting = self.running = self.slot = self.slot_ns = self.loaded_ns = 0
        self.loads = False
        self.shed = self.evicted = ""
        self.work, (self.prefiller, self.fell_back) = work, prefilled
        self.hashes: list[bytes] = []

    def to_line(self) -> bytes:
        """As a line of JSON."""
        fields = {name: getattr(self, name) for name in self.__slots__ if name != "hashes"}
        return orjson.dumps({**fields, "hashes": b"".join(self.hashes).hex()}) + b"\n"


class Running(NamedTuple):
    """A request that runs: cached tokens of its prompt, its time until it began, milliseconds, and its adapter.

    ``is_prefilled`` says whether another replica has computed its prompt.
    """

    cached: int
    queued_ms: float
    lora: str
    is_prefilled: bool


class TokenEngine:
    """Serves requests for tokens, ``max_num_seqs`` at a time and first in first out.

    Attributes:
        settings: its times and limits.
        cache: its KV cache.
        adapters: those that it has loaded.
        kv_events: of its cache.
        running: requests that it serves.
        queries: prompt tokens that it has looked up in the cache.
        hits: those that it found there.
        dropped: entries that the journal has dropped.
        journal_began_ns: when it began, Unix nanoseconds.
    """

    def __init__(self, settings: TokenSettings) -> None:
        self.settings, self.cache = settings, BlockCache(settings.blocks)
        self.kv_events = KvEvents(settings.kv_events)
        self.adapters = Adapters(settings.max_loras, settings.load_adapter_s())
        self.running = self.queries = self.hits = self.dropped = 0
        self.journal_began_ns = lab_time_ns()
        self._events = self._called = 0  # ``called``: out of the queue, and not begun yet
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._journal: deque[Entry] = deque()

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    def journal(self) -> Iterator[bytes]:
        """Its lines, the request that arrived first before others."""
        return (each.to_line() for each in list(self._journal))

    @asynccontextmanager
    async def run(
        self, request: generation_pb2.GenerateRequest, work: str = "", prefilled: Prefilled = NOT
    ) -> AsyncIterator[Running]:
        """Waits for a place and for the adapter, and holds both and the prompt's blocks while the context lasts.

        Args:
            request: with a prompt.
            work: what is done of it, see :class:`Entry`.
            prefilled: where.

        Raises:
            FullError: the queue is full.
        """
        entry = self._register(Entry(request, work, prefilled))
        limit, most = self.settings.queue_limit, self.settings.max_num_seqs
        if self.running >= most and self.waiting >= limit:
            entry.shed = f"runs {self.running} requests and has {self.waiting} waiting, its queue_limit"
            entry.ended = self._next_event()
            raise FullError(entry.shed)
        entry.hashes = chain(request.prompt, tenant=entry.tenant, lora=entry.lora)
        with self.adapters.asked(entry.lora):
            try:
                await self._turn(most)
            except asyncio.CancelledError:
                entry.ended = self._next_event()
                raise
            hits, taken = self.cache.take(entry.hashes, entry.prompt)
            self.kv_events.publish(self.cache.changes, entry.hashes, entry.lora)
            entry.began, entry.began_ns, entry.cached = self._next_event(), lab_time_ns(), hits * BLOCK
            self.queries += entry.prompt
            self.hits += entry.cached
            self._call(most)
            try:
                async with self.adapters.use(entry.lora, partial(self._has_slot, entry)) as lora:
                    entry.loaded_ns = lab_time_ns()
                    queued_ms = (entry.began_ns - entry.arrived_ns) / 1_000_000
                    yield Running(entry.cached, queued_ms, lora, prefilled.elsewhere)
            finally:
                self.cache.release(taken)
                entry.ended = self._next_event()
                self._leave()

    def _has_slot(self, entry: Entry, slot: Slot, loads: bool) -> None:  # noqa: FBT001 (called with it by position)
        entry.slot, entry.slot_ns, entry.loads = self._next_event(), lab_time_ns(), loads
        entry.evicted = slot.evicted if loads else ""

    def _register(self, entry: Entry) -> Entry:
        entry.arrived, entry.arrived_ns = self._next_event(), lab_time_ns()
        entry.waiting, entry.running = self.waiting, self.running
        self._journal.append(entry)
        if len(self._journal) > KEPT:
            self._journal.popleft()
            self.dropped += 1
        return entry

    async def _turn(self, most: int) -> None:
        if self.running < most and not self._waiting and not self._called:
            self.running += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it had its turn already
                self._called -= 1
                self._leave()
            else:
                self._waiting.remove(turn)
            raise
        self._called -= 1

    def _leave(self) -> None:
        """Gives a place back, to the next in the queue."""
        self.running -= 1
        self._call(self.settings.max_num_seqs)

    def _call(self, most: int) -> None:
        """Gives places that are free to the first in the queue. Who comes before these have begun waits behind them."""
        while self._waiting and self.running < most:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self.running += 1
                self._called += 1

    def _next_event(self) -> int:
        self._events += 1
        return self._events
