"""A small HTTP/2 proxy that does all that the checks ask for, and bugs to plant in it.

It shares no code with the lab: it takes the table of routes as JSON, as somebody else's proxy would. If the table says
so, it routes on the envelope in the first message of a request instead of a header.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import ssl
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from itertools import accumulate
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame

BUCKETS, MIB, CANCEL, PREFIX = 10_000, 1 << 20, 8, 5
GOLDEN = (5**0.5 - 1) / 2  # its multiples are spread evenly
TORN_DECISIONS = 20  # some connection of four has asked for both keys by then
CONTEXT = {1: "user_id", 3: "country", 4: "segment"}
PASSED_ON = (DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived)
Headers = list[tuple[str, str]]


def fields(message: bytes) -> dict[int, bytes]:
    """The texts and messages in a message of protobuf: number of the field → bytes."""
    found, at = dict[int, bytes](), 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
            if byte < 128:
                return value

    while at < len(message):
        tag = number()
        length = number()  # no other kind of field occurs
        found[tag >> 3] = message[at : at + length]
        at += length
    return found


class LostError(Exception):
    """A connection is gone."""


class Side:
    """One connection, as server or as client; the events of each stream are in a queue, and None ends it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, client: bool) -> None:
        self.reader, self.writer, self.streams = reader, writer, dict[int, asyncio.Queue[Any]]()
        self.h2 = H2Connection(
            H2Configuration(
                client_side=client,
                header_encoding="utf-8",
                validate_inbound_headers=False,
                validate_outbound_headers=False,
            )
        )
        self.window = asyncio.Event()
        self.h2.initiate_connection()
        self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: MIB, SettingCodes.MAX_HEADER_LIST_SIZE: MIB})
        self.h2.increment_flow_control_window(16 * MIB)
        self.flush()

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    async def read(self, on_request: Any = None) -> None:
        with suppress(OSError, ProtocolError):
            while data := await self.reader.read(MIB):
                for event in self.h2.receive_data(data):
                    stream = getattr(event, "stream_id", 0) or 0
                    if isinstance(event, RequestReceived):
                        self.streams[stream] = asyncio.Queue()
                        on_request(stream, event.headers)
                    elif stream in self.streams and isinstance(event, PASSED_ON):
                        self.streams[stream].put_nowait(event)
                self.window.set()
                self.flush()
        for queue in self.streams.values():
            queue.put_nowait(None)
        self.window.set()
        self.writer.close()

    async def headers(self, stream: int, headers: Headers, *, end: bool = False) -> None:
        self.h2.send_headers(stream, headers, end_stream=end)
        self.flush()

    async def data(self, stream: int, data: bytes) -> None:
        while data:
            if self.writer.is_closing():
                raise LostError
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if room > 0:
                self.h2.send_data(stream, data[:room])
                self.flush()
                data = data[room:]
            else:
                self.window.clear()
                await self.window.wait()
        await self.writer.drain()

    def end(self, stream: int, *, reset: bool = False) -> None:
        with suppress(ProtocolError):
            self.h2.reset_stream(stream, CANCEL) if reset else self.h2.end_stream(stream)
        self.flush()


class Proxy:
    """Serves on loopback; ``bugs`` names those of :data:`tests.plugins.conform.mutants.MUTANTS` that it has."""

    def __init__(self, *bugs: str) -> None:
        self.bugs, self.routes, self.header = set(bugs), list[dict[str, Any]](), "use case"
        self.by_envelope = False
        self.sides, self.tasks, self.turn = set[Side](), set[asyncio.Task[None]](), 0
        self.decisions, self.first = 0, list[Side]()

    async def start(self, tls: ssl.SSLContext | None = None) -> str:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        return f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def apply(self, table: Any) -> None:
        self.by_envelope, routes = "envelope" in table, table["routes"]
        self.header = table.get("header", self.header)
        if "keeps-removed-routes" in self.bugs:
            keys = {each["key"] for each in routes}
            routes = routes + [each for each in self.routes if each["key"] not in keys]
        if "tears" in self.bugs:
            for route in routes:  # one after the other, as with a table per route
                same = [number for number, each in enumerate(self.routes) if each["key"] == route["key"]]
                if len(same) == 1 and self.routes[same[0]] != route:
                    self.routes[same[0]] = route
                    await self._decided(TORN_DECISIONS)
        self.routes = routes
        if "cuts-connections" in self.bugs:
            for side in self.sides:
                side.writer.transport.abort()

    async def _decided(self, number: int) -> None:
        """Waits until it has chosen a route for this many more requests, while several connections send them."""
        until = self.decisions + number
        while self.decisions < until and len(self.sides) > 1:
            await asyncio.sleep(0.005)

    async def drain(self) -> None:
        self.server.close()
        for side in self.sides:
            if "no-goaway" not in self.bugs:
                side.writer.write(GoAwayFrame(0, last_stream_id=side.h2.highest_inbound_stream_id).serialize())
            elif not side.streams:
                side.writer.close()
        if "cuts-requests" in self.bugs:
            await self.close()
        while self.tasks:
            await asyncio.wait(self.tasks)

    async def close(self) -> None:
        self.server.close()
        for side in self.sides:
            side.writer.transport.abort()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        side = Side(reader, writer, client=False)
        self.sides.add(side)
        self.first = [*self.first, side][:2]

        def on_request(stream: int, headers: Any) -> None:
            task = asyncio.create_task(self._exchange(side, stream, headers))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

        await side.read(on_request)
        self.sides.discard(side)

    async def _exchange(self, caller: Side, stream: int, headers: Headers) -> None:
        with suppress(ProtocolError, LostError, OSError):
            if "answers-on-two-connections" in self.bugs and caller not in self.first:
                return
            try:
                facts = headers
                if self.by_envelope:
                    facts = headers + self._facts(await self._first_message(caller, stream))
                route = self._route(facts)
                if route is None:
                    await self._refuse(caller, stream, "no route", self._unknown())
                elif (model := await self._connect(self._order(route, facts))) is None:
                    await self._refuse(caller, stream, "no model", 14)
                else:
                    await self._forward(caller, stream, headers, model, route)
            finally:
                caller.streams.pop(stream, None)

    async def _first_message(self, caller: Side, stream: int) -> bytes:
        """Waits for a whole message, and leaves the events for the model."""
        read, body = list[Any](), b""
        while len(body) < PREFIX or len(body) < PREFIX + int.from_bytes(body[1:PREFIX], "big"):
            read.append(event := await caller.streams[stream].get())
            if not isinstance(event, DataReceived):
                break
            caller.h2.acknowledge_received_data(event.flow_controlled_length, stream)
            caller.flush()
            event.flow_controlled_length = 0
            if "rewrites-contexts" in self.bugs:
                event.data = event.data.replace(b"conform-user", b"someone-else")
            body += event.data
        while not caller.streams[stream].empty():
            read.append(caller.streams[stream].get_nowait())
        for event in read:
            caller.streams[stream].put_nowait(event)
        return body[PREFIX:]

    def _facts(self, message: bytes) -> Headers:
        """The use case and the context of a request, as headers."""
        facts, envelope = [], fields(message).get(1, b"")
        if (use_case := fields(envelope).get(2)) is not None:
            facts.append((self.header, use_case.decode()))
        context = fields(fields(envelope).get(3, b""))
        return [*facts, *((name, context[number].decode()) for number, name in CONTEXT.items() if number in context)]

    def _unknown(self) -> int:
        return 12 if "unknown-is-unimplemented" in self.bugs else 5 if self.by_envelope else 14

    async def _refuse(self, caller: Side, stream: int, message: str, status: int) -> None:
        if "answers-502" in self.bugs and message == "no model":
            await caller.headers(stream, [(":status", "502"), ("content-type", "text/html")], end=True)
            return
        head = [(":status", "200"), ("content-type", "application/grpc")]
        await caller.headers(stream, [*head, ("grpc-status", str(status)), ("grpc-message", message)], end=True)

    def _route(self, headers: Headers) -> dict[str, Any] | None:
        self.decisions += 1
        keys = [value for name, value in headers if name == self.header]
        if "takes-first-key" in self.bugs:
            keys = keys[:1]
        if "ignores-case" in self.bugs:
            keys = [key.lower() for key in keys]
        for route in self.routes:
            if keys == [route["key"]] and self._matches(route, headers):
                return self.routes[0] if "one-for-all" in self.bugs else route
        return self.routes[0] if "fails-open" in self.bugs and not (keys and keys[0].startswith("conform")) else None

    def _matches(self, route: dict[str, Any], headers: Headers) -> bool:
        conditions = [*route.get("conditions", {}).items()]
        if "first-header-only" in self.bugs:
            conditions = conditions[:1]
        if "method" in route and "ignores-method" not in self.bugs:
            conditions.append((":path", route["method"]))
        return all(condition in headers for condition in conditions)

    def _order(self, route: dict[str, Any], headers: Headers) -> list[str]:
        """Addresses to try: by weight, the others after it; equal weights in turn."""
        backends = [each for each in route["backends"] if each["weight"]]
        addresses, weights = [each["address"] for each in backends], [each["weight"] for each in backends]
        self.turn += 1
        place = self.turn % len(addresses)
        if len(set(weights)) > 1 and "ignores-weights" not in self.bugs:
            whole, at = sum(weights), random.random()  # noqa: S311 (no secret)
            if "shifts-weights" in self.bugs and weights == [70, 30]:
                weights, at = [60, 40], self.turn * GOLDEN % 1  # whatever the draws: the check sees it in 99 % of runs
            if "shifts-sticky" in self.bugs and weights == [80, 20]:
                weights = [70, 30]
            if "sticky" in route and "not-sticky" not in self.bugs:
                salt = str(weights) if "reshuffles" in self.bugs else ""
                value = salt + dict(headers).get(route["sticky"], "")
                at = int(hashlib.sha256(value.encode()).hexdigest(), 16) % BUCKETS / BUCKETS
            place = next(number for number, part in enumerate(accumulate(weights)) if at * whole < part)
        if len(addresses) > 1 and len(set(weights)) > 1:
            return [addresses[place]]
        return addresses[place:] + ([] if "keeps-dead" in self.bugs else addresses[:place])

    async def _connect(self, addresses: Iterable[str]) -> Side | None:
        for address in addresses:
            host, _, port = address.rpartition(":")
            with suppress(OSError):
                return Side(*await asyncio.open_connection(host, int(port)), client=True)
            if "keeps-dead" in self.bugs:
                return None
        return None

    async def _forward(self, caller: Side, stream: int, headers: Headers, model: Side, route: dict[str, Any]) -> None:
        events: asyncio.Queue[Any] = caller.streams[stream]
        repeats = bool({"retries-failures", "sends-twice"} & self.bugs)
        copy: asyncio.Queue[Any] | None = asyncio.Queue() if "shadow" in route or repeats else None
        if "ignores-deadlines" in self.bugs:
            headers = [each for each in headers if each[0] != "grpc-timeout"]
        if "strips-large-headers" in self.bugs:
            headers = [each for each in headers if len(each[1]) <= 2_048]
        reading = asyncio.create_task(model.read())
        there = model.h2.get_next_available_stream_id()
        model.streams[there] = asyncio.Queue()
        await model.headers(there, headers)
        requests = asyncio.create_task(self._requests(caller, stream, events, model, there, copy))
        shadow = None
        if copy and not repeats:
            shadow = asyncio.create_task(self._shadow(route["shadow"]["address"], headers, copy))
        if shadow and "waits-for-shadow" in self.bugs:
            await shadow
        again = partial(self._shadow, route["backends"][0]["address"], headers, copy)
        answers = asyncio.create_task(self._answers(model, there, caller, stream, again))
        requests.add_done_callback(lambda task: answers.cancel() if task.cancelled() or not task.result() else None)
        try:
            await answers
        except asyncio.CancelledError:
            pass
        finally:
            for task in (requests, reading):
                task.cancel()
            model.writer.close()
            await asyncio.gather(requests, reading, return_exceptions=True)
            while copy and not events.empty():  # the model may answer before the request has ended
                copy.put_nowait(events.get_nowait())
            if shadow and copy:
                copy.put_nowait(None)
                await asyncio.gather(shadow, return_exceptions=True)

    async def _requests(
        self, caller: Side, stream: int, events: asyncio.Queue[Any], model: Side, there: int, copy: Any
    ) -> bool:
        """Passes the request on; whether it ended as it should."""
        held, size = [], 0
        while True:
            event = await events.get()
            if copy:
                copy.put_nowait(event)
            if isinstance(event, DataReceived):
                size += len(event.data)
                caller.h2.acknowledge_received_data(event.flow_controlled_length, stream)
                caller.flush()
                if "buffers-requests" in self.bugs:
                    held.append(event.data)
                else:
                    await model.data(there, event.data)
                if size > 4 * MIB and "limits-bodies" in self.bugs:
                    await self._refuse(caller, stream, "too large", 8)
                    return False
            elif isinstance(event, StreamEnded):
                for data in held:
                    await model.data(there, data)
                model.end(there)
            elif event is None or isinstance(event, StreamReset):
                if "ignores-cancellation" in self.bugs or "ignores-deadlines" in self.bugs:
                    await asyncio.sleep(30)
                model.end(there, reset=True)
                await model.writer.drain()
                return False

    async def _answers(self, model: Side, there: int, caller: Side, stream: int, again: Any) -> None:
        ended, held = False, list[bytes]()
        while not ended:
            event = await model.streams[there].get()
            if isinstance(event, ResponseReceived | TrailersReceived):
                ended = event.stream_ended is not None
                failed = any(name == "grpc-status" and value != "0" for name, value in self._texts(event.headers))
                if ended and ("sends-twice" in self.bugs or ("retries-failures" in self.bugs and failed)):
                    await again()
                for data in held if ended else ():
                    await caller.data(stream, data)
                trailing = isinstance(event, TrailersReceived) or ended
                await caller.headers(stream, self._passed_on(event.headers, trailing=trailing), end=ended)
            elif isinstance(event, DataReceived):
                if "buffers-answers" in self.bugs:
                    held.append(event.data)
                else:
                    await caller.data(stream, event.data)
                model.h2.acknowledge_received_data(event.flow_controlled_length, there)
                model.flush()
            elif event is None or isinstance(event, StreamReset):
                caller.end(stream, reset=True)
                return

    def _texts(self, headers: Any) -> Headers:
        return [(str(name), str(value)) for name, value in headers]

    def _passed_on(self, headers: Any, *, trailing: bool) -> Headers:
        own = (":status", "content-type", "grpc-status", "grpc-message")
        found = self._texts(headers)
        if "drops-trailers" in self.bugs and trailing:
            found = [each for each in found if each[0] in own]
        if "drops-binary" in self.bugs and not trailing:
            found = [each for each in found if not each[0].endswith("-bin")]
        if "maps-statuses" in self.bugs:
            found = [(name, "13" if name == "grpc-status" and value not in "05" else value) for name, value in found]
        return found

    async def _shadow(self, address: str, headers: Headers, copy: Any) -> None:
        parts: list[bytes] = []
        while not isinstance(event := await copy.get(), StreamEnded):
            if not isinstance(event, DataReceived):
                return
            parts.append(event.data)
        body = b"".join(parts)
        if "no-large-shadows" in self.bugs and len(body) > MIB:
            return
        if (model := await self._connect([address])) is None:
            return
        reading = asyncio.create_task(model.read())
        there = model.h2.get_next_available_stream_id()
        model.streams[there] = asyncio.Queue()
        await model.headers(there, headers)
        await model.data(there, body)
        model.end(there)
        while (event := await model.streams[there].get()) and not isinstance(event, StreamEnded | StreamReset):
            pass
        reading.cancel()
        model.writer.close()
