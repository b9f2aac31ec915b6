"""What pickers that choose for each request see of replicas, and a log of what they saw and picked: evidence."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import grpc.aio
import orjson

from lab.clock import lab_time_ns
from lab.pickers import Asked, Seen, Source, Speed, Stale
from models.proto.control.v1 import picks_pb2, picks_pb2_grpc
from models.tokens.journal_parts import parts_of

if TYPE_CHECKING:
    from services.gateway.attempts_in_flight import AttemptsInFlight
    from services.gateway.channel_pool import Connection

KEPT = 20_000
"""Picks that the log has, and waits for one."""

PICKED, QUEUE_FULL, WAITED_TOO_LONG = "picked", "queue-full", "waited-too-long"
LEFT, NO_ATTEMPT = "left", "no-attempt"
"""How else a wait ends: its caller has gone, or its time is over; it is its turn, and no attempt can be made."""

_LOAD = "/control.v1.Signals/GetLoad"
_KV_EVENTS = "/control.v1.Signals/FollowKvEvents"
_LOAD_REQUEST = picks_pb2.GetLoadRequest().SerializeToString()
_LEAST_TIMEOUT_S = 0.25
_SIGHTS = "seen", "saw"


class SignalSettings(NamedTuple):
    """Where the signal of the replicas' load comes from, and how old it gets.

    Attributes:
        source: ``scraped`` from the replicas, ``counted`` at dispatch, or ``reserved`` at the pick.
        age_s: time between two readings, seconds; 0 for a count that is always of now.
        stale: what to do with readings that are older than ``stale_ms``, see :data:`lab.pickers.Stale`.
        stale_ms: see there.
        release_s: time after which a reservation is released, seconds.
    """

    source: Source = "scraped"
    age_s: float = 0.05
    stale: Stale = "use"
    stale_ms: float = 2_000.0
    release_s: float = 10.0

    @property
    def is_read(self) -> bool:
        """Whether load is read now and then, not counted at each pick."""
        return bool(self.age_s) and self.source != "reserved"


def signal_in(text: str) -> SignalSettings:
    """Returns the settings in the JSON form of the spec's ``[signal]``; what it leaves out has its default."""
    seconds = {"age_ms": "age_s", "release_ms": "release_s"}
    values = orjson.loads(text).items()
    return SignalSettings(**{seconds.get(name, name): v / 1_000 if name in seconds else v for name, v in values})


class Signal:
    """The signal of one replica; begins to read it at once, until it is stopped.

    Args:
        settings: where it comes from.
        connection: to the replica.
        address: of the replica.
        attempts: in flight there.
        on_kv_events: called with each batch of its KV events; None if nobody follows them.
    """

    def __init__(
        self,
        settings: SignalSettings,
        connection: Connection,
        address: str,
        attempts: AttemptsInFlight,
        on_kv_events: Callable[[str, int, bytes], None] | None = None,
    ) -> None:
        self._settings, self._connection, self._address, self._attempts = settings, connection, address, attempts
        self._read, self._read_at = Seen(address, 0, 0, 0, 0.0, -1.0), -1.0
        self._reading = asyncio.create_task(self._read_for_ever()) if settings.is_read else None
        self._following = asyncio.create_task(self._follow_for_ever(on_kv_events)) if on_kv_events else None

    async def _read_for_ever(self) -> None:
        rpc = self._connection.channel.raw(_LOAD)
        source, age_s = self._settings.source, self._settings.age_s
        while True:
            if source == "counted":
                self._read, self._read_at = self._read._replace(waiting=len(self._attempts)), time.monotonic()
            else:
                asked_at = time.monotonic()
                try:
                    raw = await rpc(_LOAD_REQUEST, timeout=max(age_s, _LEAST_TIMEOUT_S))
                    load = picks_pb2.GetLoadResponse.FromString(raw)
                    self._read, self._read_at = reported(load, self._address), asked_at
                except grpc.aio.AioRpcError:
                    pass  # it grows older, as the log shows
            await asyncio.sleep(age_s)

    async def _follow_for_ever(self, on_kv_events: Callable[[str, int, bytes], None]) -> None:
        """Follows the replica's KV events; after a broken stream, from the first batch that is missing."""
        rpc, wanted = self._connection.channel.raw_stream(_KV_EVENTS), picks_pb2.FollowKvEventsRequest()
        while True:
            try:
                async for raw in rpc(wanted.SerializeToString()):
                    batch = picks_pb2.KvEventBatch.FromString(raw)
                    on_kv_events(self._address, batch.sequence, batch.payload)
                    wanted.sequence, wanted.began_ns = batch.sequence + 1, batch.began_ns
            except grpc.aio.AioRpcError:
                pass  # it knows no more for now
            await asyncio.sleep(_LEAST_TIMEOUT_S)

    def seen(self) -> Seen:
        """The replica as a picker sees it now."""
        age_ms = -1.0 if self._read_at < 0 else (time.monotonic() - self._read_at) * 1_000
        return seen_now(self._settings, self._attempts, self._read._replace(age_ms=age_ms))

    def stop(self) -> None:
        """Reads it no more."""
        for task in (self._reading, self._following):
            if task is not None:
                task.cancel()


def seen_now(settings: SignalSettings, attempts: AttemptsInFlight, read: Seen) -> Seen:
    """A replica as a picker sees it now.

    Args:
        settings: where the signal comes from.
        attempts: in flight to it.
        read: what was read of it last, with its age now.
    """
    in_flight = len(attempts)
    if settings.source == "reserved":
        slots, tokens = attempts.reserved()
        return Seen(read.address, in_flight, slots, 0, 0.0, 0.0, tokens=tokens)
    if not settings.is_read:
        return Seen(read.address, in_flight, in_flight, 0, 0.0, 0.0)
    return read._replace(in_flight=in_flight)


def reported(load: picks_pb2.GetLoadResponse, address: str) -> Seen:
    """What a replica reports; what the gateway itself counts is not in it."""
    its = load.speed
    return Seen(
        address,
        0,
        load.waiting,
        load.running,
        load.kv_used,
        0.0,
        tuple(load.loras),
        tuple(load.waiting_loras),
        load.max_loras,
        speed=Speed(its.overhead_ms, its.prefill_ms, its.itl_ms, its.load_factor, its.max_num_seqs),
        prefills=load.prefills,
    )


class PickLog:
    """The latest picks and their ends, in their order, and the waits before them.

    Attributes:
        dropped: picks and waits that it no longer has.
        began_ns: when it began, Unix nanoseconds.
    """

    def __init__(self) -> None:
        self.dropped, self.began_ns = 0, lab_time_ns()
        self._events, self._groups = count(1), count(1)
        self._picks: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self._waits: OrderedDict[int, dict[str, Any]] = OrderedDict()

    def new_group(self) -> int:
        """A number for the picks of one chooser."""
        return next(self._groups)

    def pick(
        self,
        group: int,
        policy: str,
        asked: Asked,
        seen: Sequence[Seen],
        picked: str,
        tried: Sequence[str],
        took_ns: int,
        kv_events: Sequence[tuple[str, int, bytes]] = (),
        queued: int = 0,
        prefiller: str = "",
    ) -> int:
        """Notes a pick before it is followed, how long it took, KV events since the last, and where it prefills.

        ``queued`` is the number of the wait that it ends; 0 if it ends none. Returns the pick's number.
        """
        number = next(self._events)
        if queued:
            self.end_wait(queued, PICKED, (), number)
        self._picks[number] = {
            "queued": queued,
            "group": group,
            "policy": policy,
            "number": number,
            "at_ns": lab_time_ns(),
            "asked": asked,
            "seen": seen,
            "picked": picked,
            "tried": tried,
            "took_ns": took_ns,
            "kv_events": kv_events,
            "prefiller": prefiller,
            "ended": 0,
            "status": "",
            "served": "",
        }
        if len(self._picks) > KEPT:
            self._picks.popitem(last=False)
            self.dropped += 1
        return number

    def end(self, number: int, status: str, served: str = "") -> None:
        """Notes how the attempt ended that was picked for, and which other replica served it, if one did."""
        if (pick := self._picks.get(number)) is not None:
            pick["ended"], pick["status"], pick["served"] = next(self._events), status, served

    def wait(self, group: int, policy: str, asked: Asked, seen: Sequence[Seen]) -> int:
        """Notes that a request waits, as no replica that was seen has room; returns the wait's number."""
        number = next(self._events)
        self._waits[number] = {
            "group": group,
            "policy": policy,
            "number": number,
            "at_ns": lab_time_ns(),
            "asked": asked,
            "seen": seen,
            "ended": 0,
            "ended_ns": 0,
            "outcome": "",
            "saw": (),
        }
        if len(self._waits) > KEPT:
            self._waits.popitem(last=False)
            self.dropped += 1
        return number

    def end_wait(self, number: int, outcome: str, saw: Sequence[Seen], ended: int = 0) -> None:
        """Notes how a wait ended and what was seen then; ``ended`` is the number of the pick that ended it, or 0."""
        if (wait := self._waits.get(number)) is not None:
            wait["ended"], wait["ended_ns"] = ended or next(self._events), lab_time_ns()
            wait["outcome"], wait["saw"] = outcome, saw

    def lines(self) -> list[bytes]:
        """A line of JSON for each pick and each wait."""
        return [_line(each) for each in (*self._picks.values(), *self._waits.values())]

    def line_of(self, number: int) -> bytes:
        """The line of one pick; empty if the log no longer has it."""
        return _line(self._picks[number]) if number in self._picks else b""


def _line(entry: dict[str, Any]) -> bytes:
    asked: Asked = entry["asked"]
    fields = {**asked._asdict(), "hashes": b"".join(asked.hashes).hex()}
    sights = {
        key: [{**each._asdict(), "speed": [*each.speed]} for each in entry[key]] for key in _SIGHTS if key in entry
    }
    heard = [(address, sequence, payload.hex()) for address, sequence, payload in entry.get("kv_events", ())]
    return orjson.dumps({**entry, "asked": fields, "kv_events": heard, **sights}) + b"\n"


class Picking(NamedTuple):
    """What the replicas of all routing keys share: settings of the signal, and the log."""

    signal: SignalSettings
    log: PickLog


class GatewayPicks(picks_pb2_grpc.PickJournalServicer):
    """Serves a gateway's ``control.v1.PickJournal``: of picks."""

    def __init__(self, log: PickLog) -> None:
        self._log = log

    async def Read(
        self, request: picks_pb2.ReadPicksRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[picks_pb2.ReadPicksResponse]:
        """The lines, several a message."""
        del request, context
        for part in parts_of(self._log.lines(), self._log.dropped, self._log.began_ns):
            yield part
