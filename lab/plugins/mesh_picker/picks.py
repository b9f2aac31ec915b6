"""The picks of one client: by key the replicas and their load, the chooser, what is in flight; and a log."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any

import grpc
import grpc.aio
import orjson

from lab.clock import lab_time_ns
from lab.pickers import GATEWAY, PICKERS, Asked, Chooses, Picker, Seen, offered
from lab.plugins.endpoint_picker.asked import asked_in, has_prompt
from lab.plugins.endpoint_picker.contract import SERVED
from lab.routing.headers import REQUEST_ID
from lab.routing.keys import HEADER
from lab.routing.slo import Slo
from models.apis import METHODS
from models.proto.control.v1 import picks_pb2
from services.gateway.attempts_in_flight import AttemptsInFlight
from services.gateway.picks import PickLog, SignalSettings, reported, seen_now, signal_in

FIRST_S = 0.25
"""How long the first requests of a key wait for its replicas."""
LAST_S = 2.0
"""Age of what the signals said last from which on nothing is picked by it."""
REPORT_EVERY_S = 0.1
NO_SIGNALS = "no signals"

_FOLLOW, _REPORT = "/control.v1.ReplicaSignals/Follow", "/control.v1.ReplicaSignals/Report"
_PAUSE_S, _TIMEOUT_S = 0.25, 1.0
_MOST_LINES = 500  # of a report; one has up to a few 10 KB


class KeyPicks:
    """A routing key at this client.

    Attributes:
        first: set once its replicas have come.
        until: the first requests wait for that until then, by :func:`time.monotonic`.
    """

    def __init__(self) -> None:
        self.first, self.until = asyncio.Event(), time.monotonic() + FIRST_S
        self.group = secrets.randbits(48)
        self.objectives: Mapping[str, Slo] = {}
        self.signal = SignalSettings()
        self.picker: Picker | None = None
        self._chooser: Any = None
        self._pick: Any = None
        self._came_at = 0.0
        self._said: tuple[Seen, ...] = ()
        self._attempts: dict[str, AttemptsInFlight] = {}

    def came(self, message: picks_pb2.ReplicasOfKey) -> None:
        """Takes in what the signals say."""
        if self.picker is None:
            self.picker, self.signal = PICKERS[message.picker], signal_in(message.signal)
            made = self.picker.at(GATEWAY)
            chooses = isinstance(made, Chooses)
            self._chooser, self._pick = (made.make(), None) if chooses else (None, made())
            if not chooses:
                self.signal = self.signal._replace(source="counted", age_s=0.0)
        self._said = tuple(map(self._read, message.replicas))
        self._came_at = time.monotonic()
        self.objectives = {
            name: Slo(each.first_token_ms, each.next_token_ms) for name, each in message.objectives.items()
        }
        self.first.set()

    def _read(self, said: picks_pb2.ReplicaLoad) -> Seen:
        if self.signal.source == "counted":
            return Seen(said.address, 0, len(self.attempts_to(said.address)), 0, 0.0, 0.0)
        return reported(said.load, said.address)._replace(age_ms=said.age_ms)

    def seen(self) -> list[Seen]:
        """The replicas as a picker sees them now; none if the signals are too old."""
        since_s = time.monotonic() - self._came_at
        return [self._now(each, 1_000 * since_s) for each in self._said] if since_s < LAST_S else []

    def _now(self, said: Seen, since_ms: float) -> Seen:
        age_ms = said.age_ms + since_ms if said.age_ms >= 0 else -1.0
        return seen_now(self.signal, self.attempts_to(said.address), said._replace(age_ms=age_ms))

    def attempts_to(self, address: str) -> AttemptsInFlight:
        """Those of this client in flight there."""
        if address not in self._attempts:
            self._attempts[address] = AttemptsInFlight(self.signal.release_s)
        return self._attempts[address]

    def pick(self, asked: Asked, seen: Sequence[Seen], log: PickLog) -> tuple[str, int]:
        """The address for a request, and the number of its pick, which the log has where the picker chooses."""
        began_ns = time.perf_counter_ns()
        if self._chooser is None or self.picker is None:
            return self._pick(seen).address, 0
        among = offered(seen, self.signal.stale, self.signal.stale_ms)
        address = among[self._chooser.pick(asked, among)].address
        number = log.pick(self.group, self.picker.name, asked, seen, address, (), time.perf_counter_ns() - began_ns)
        return address, number

    def ended(self, asked: Asked, address: str) -> None:
        """Tells the chooser that an attempt has ended."""
        if self._chooser is not None:
            self._chooser.ended(asked, address)


class ClientPicks:
    """Follows the keys that the client's requests go to, picks for each request, and reports its log.

    Needs a running event loop.

    Args:
        channel: to the replica signals.

    Attributes:
        counts: requests by what came of them: ``as picked``, ``elsewhere``, ``not said``, or ``no signals``.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel, self._client = channel, secrets.token_hex(8)
        self._follow: Any = channel.unary_stream(_FOLLOW, response_deserializer=picks_pb2.ReplicasOfKey.FromString)
        self._report: Any = channel.unary_unary(_REPORT)
        self._keys: dict[str, KeyPicks] = {}
        self._log, self._numbers = PickLog(), count(1)
        self._changed: dict[str, bytes | int] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._tasks = [asyncio.create_task(self._report_for_ever())]
        self.counts: Counter[str] = Counter()

    async def follow(self, routing_keys: Iterable[str]) -> None:
        """Returns once the replicas of these keys are known, or could not be got in time."""
        for name in routing_keys:
            key = self._keys.get(name)
            if key is None:
                key = self._keys[name] = KeyPicks()
                self._tasks.append(asyncio.create_task(self._follow_for_ever(name, key)))
            left_s = key.until - time.monotonic()
            if left_s > 0 and not key.first.is_set():
                await asyncio.wait([asyncio.ensure_future(key.first.wait())], timeout=left_s)

    async def _follow_for_ever(self, name: str, key: KeyPicks) -> None:
        wanted = picks_pb2.FollowReplicasRequest(routing_key=name).SerializeToString()
        while True:
            try:
                async for message in self._follow(wanted):
                    key.came(message)
            except grpc.aio.AioRpcError:
                pass  # what was said last grows old
            await asyncio.sleep(_PAUSE_S)

    def pick(self, path: str, payload: bytes, headers: Mapping[str, Any]) -> Attempt | None:
        """Picks the replica of a request; None, which is counted and reported, if nothing is known to pick from."""
        key, name = self._keys.get(headers.get(HEADER, "")), headers.get(REQUEST_ID, "")
        seen = key.seen() if key is not None else []
        if key is None or not seen:
            self.counts[NO_SIGNALS] += 1
            line = {"unpicked": name, "why": NO_SIGNALS, "at_ns": lab_time_ns()}
            self._changed[f"unpicked-{next(self._numbers)}"] = orjson.dumps(line) + b"\n"
            return None
        method = METHODS.get(path)
        asked = asked_in(payload, method, name, key.objectives) if method is not None and has_prompt(method) else None
        asked = asked or Asked(name, (), 0, "", "", "")
        address, number = key.pick(asked, seen, self._log)
        return Attempt(self, key, asked, address, number or -next(self._numbers))

    def noted(self, number: int) -> None:
        """Has the entry of a pick reported, as it has changed."""
        if number > 0:
            self._changed[f"pick-{number}"] = number

    def ends(self, ended: asyncio.Task[None]) -> None:
        """Keeps the end of an attempt until it is noted."""
        self._ending.add(ended)
        ended.add_done_callback(self._ending.discard)

    def end(self, attempt: Attempt, status: str, served: str) -> None:
        """Counts an attempt out, which was served by a replica as the sidecar says; empty if it does not say."""
        attempt.key.attempts_to(attempt.address).end(attempt.number)
        attempt.key.ended(attempt.asked, attempt.address)
        self._log.end(attempt.number, status, served)
        self.noted(attempt.number)
        self.counts["not said" if not served else "as picked" if served == attempt.address else "elsewhere"] += 1

    async def _report_for_ever(self) -> None:
        while True:
            await asyncio.sleep(REPORT_EVERY_S)
            await self._report_changed()

    async def _report_changed(self) -> None:
        """Reports what has changed; what does not arrive, the next time."""
        while self._changed:
            names = [*self._changed][:_MOST_LINES]
            part = {name: self._changed.pop(name) for name in names}
            lines = {name: self._log.line_of(its) if isinstance(its, int) else its for name, its in part.items()}
            request = picks_pb2.ReportPicksRequest(client=self._client, lines=lines)
            try:
                await self._report(request.SerializeToString(), timeout=_TIMEOUT_S)
            except grpc.aio.AioRpcError:
                self._changed = {**part, **self._changed}
                return

    async def close(self) -> None:
        """Reports the rest, and ends."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*self._ending)
        await self._report_changed()
        await self._channel.close(None)


class Attempt:
    """One attempt that a replica was picked for, in flight until its call has ended."""

    __slots__ = ("_picks", "address", "asked", "key", "number")

    def __init__(self, picks: ClientPicks, key: KeyPicks, asked: Asked, address: str, number: int) -> None:
        self._picks, self.key, self.asked, self.address, self.number = picks, key, asked, address, number
        key.attempts_to(address).add(number, asked.tokens)
        picks.noted(number)

    def follow(self, call: Any) -> None:
        """Ends with a call."""
        call.add_done_callback(lambda _: self._picks.ends(asyncio.ensure_future(self._end(call))))

    async def _end(self, call: Any) -> None:
        code = await call.code()
        headers = (*(await call.initial_metadata() or ()), *(await call.trailing_metadata() or ()))
        said = next((str(value) for name, value in headers if name == SERVED), "")
        self._picks.end(self, code.name, "" if said == "-" else said)
