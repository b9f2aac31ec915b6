"""What a check works with: models, a caller, and the proxy between them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from lab.plugins.conform.models import ID_BYTES, Model, Script
from lab.plugins.conform.table import Route, document

if TYPE_CHECKING:
    from lab.plugins.conform.control import Control
    from lab.plugins.conform.forms import ByHeader, Metadata
    from lab.plugins.conform.target import Target

TIMEOUT_S = 5.0
"""Deadline of a request, where a check sets no other."""
FOLLOWS_WITHIN_S = 5.0
"""From the return of a control until the proxy has to follow it."""
_PAUSE_S = 0.02
_DIGEST_BYTES = sha256().digest_size
# gRPC's library makes a status from one of HTTP, and says so.
_NO_GRPC_STATUS = "Received http2 header with status"


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request ended.

    Attributes:
        code: its status.
        details: message of a status that is not OK.
        model: that answered; empty if none did.
        intact: whether the model got the payload as it was sent.
        body: what it answered beside that.
        initial: metadata before the answer.
        trailing: metadata after it.
        sent: when it was sent, on the monotonic clock, seconds.
        done: when it ended, likewise.
    """

    code: grpc.StatusCode
    details: str = ""
    model: str = ""
    intact: bool = False
    body: bytes = b""
    initial: Metadata = ()
    trailing: Metadata = ()
    sent: float = 0.0
    done: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether a model answered."""
        return self.code is grpc.StatusCode.OK

    @property
    def by_grpc(self) -> bool:
        """Whether its status came by gRPC, and was not made from a status of HTTP."""
        return not self.details.startswith(_NO_GRPC_STATUS)

    def __str__(self) -> str:
        return f"an answer by model {self.model}" if self.ok else f"{self.code.name} ({self.details or 'no message'})"


class Stage:
    """Sends requests through the proxy, and changes its routes.

    Attributes:
        target: the proxy.
        form: of requests.
        models: by name; a check may stop them, and all run again before the next.
        routes: in force.
    """

    def __init__(
        self,
        target: Target,
        form: ByHeader,
        models: Mapping[str, Model],
        scripts: dict[bytes, Script],
        control: Control | None,
        routes: Sequence[Route],
    ) -> None:
        self.target, self.form, self.models = target, form, models
        self.routes = tuple(routes)
        self.control = control
        self._scripts = scripts
        self._channel = target.channel()
        self._revision = 0
        self._in_force: Sequence[Route] = ()

    # Requests

    async def call(
        self,
        key: str | None,
        payload: bytes = b"",
        *,
        method: str = "",
        metadata: Metadata = (),
        script: Script | None = None,
        timeout: float = TIMEOUT_S,  # noqa: ASYNC109 (the request's own, which gRPC sends along)
        channel: grpc.aio.Channel | None = None,
        sent_by: bytes = b"",
    ) -> Answer:
        """Sends one request with one message, and returns how it ended.

        Args:
            key: routing key; None for none.
            payload: of the message.
            method: path; that of the form by default.
            metadata: further headers.
            script: how the model answers; it says who it is by default.
            timeout: deadline, seconds.
            channel: to send it by; by default one that all checks share.
            sent_by: id of the request, see :meth:`request_id`; a new one by default.
        """
        sent_by = sent_by or self.request_id(script)
        send: Any = (channel or self._channel).unary_unary(  # of bytes, for which gRPC's types have no name
            method or self.form.answer,
            request_serializer=partial(self.form.body, key, metadata),
            response_deserializer=self.form.answer_of,
        )
        call = send(sent_by + payload, metadata=self.form.metadata(key, metadata), timeout=timeout)
        sent = time.monotonic()
        try:
            response = await call
            initial, trailing = _plain(await call.initial_metadata()), _plain(await call.trailing_metadata())
            model, _, rest = response.partition(b"\n")
            answer = Answer(
                grpc.StatusCode.OK,
                model=model.decode(errors="replace"),
                intact=rest[:_DIGEST_BYTES] == sha256(payload).digest(),
                body=rest[_DIGEST_BYTES:],
                initial=initial,
                trailing=trailing,
            )
        except grpc.aio.AioRpcError as error:
            initial, trailing = _plain(error.initial_metadata()), _plain(error.trailing_metadata())
            answer = Answer(error.code(), error.details() or "", initial=initial, trailing=trailing)
        finally:
            self._scripts.pop(sent_by, None)
        return replace(answer, sent=sent, done=time.monotonic())

    def stream(self, key: str, channel: grpc.aio.Channel, timeout: float | None = TIMEOUT_S) -> Any:
        """Begins a request with streams of messages in both directions.

        Args:
            key: routing key.
            channel: to send it by.
            timeout: deadline, seconds; None for none.

        Returns:
            gRPC's call, whose messages are bytes; the first one begins with a :meth:`request_id`.
        """
        send: Any = channel.stream_stream(
            self.form.stream,
            request_serializer=partial(self.form.body, key, ()),
            response_deserializer=self.form.answer_of,
        )
        return send(metadata=self.form.metadata(key, ()), timeout=timeout)

    async def calls(self, key: str | None, number: int, **options: Any) -> list[Answer]:
        """Sends many requests with a key; see :meth:`call`."""
        return await self.each(self.call(key, **options) for _ in range(number))

    async def each(self, calls: Iterable[Awaitable[Answer]], *, at_once: int = 20) -> list[Answer]:
        """The answers to these calls, of which this many are in flight."""
        limit = asyncio.Semaphore(at_once)

        async def one(call: Awaitable[Answer]) -> Answer:
            async with limit:
                return await call

        return list(await asyncio.gather(*map(one, calls)))

    def request_id(self, script: Script | None = None) -> bytes:
        """A new id, which the first message of a request begins with.

        Args:
            script: how models answer a request of this id.
        """
        new = os.urandom(ID_BYTES)
        if script is not None:
            self._scripts[new] = script
        return new

    def channel(self) -> grpc.aio.Channel:
        """A channel with its own connection, which the check closes."""
        return self.target.channel()

    async def close(self) -> None:
        """Closes the shared channel."""
        await self._channel.close()

    # Routes

    async def change(self, *changed: Route, without: str = "") -> None:
        """Puts other routes for the keys of these in force, and returns once the control has.

        Args:
            changed: new routes; they replace all of the same keys.
            without: key whose routes are removed.
        """
        keys = {each.key for each in changed} | {without}
        await self._apply([*changed, *(each for each in self.routes if each.key not in keys)])

    async def restore(self) -> None:
        """Puts the routes of all checks in force, unless they are."""
        if self.control is not None and list(self._in_force) != list(self.routes):
            await self._apply(self.routes)

    async def _apply(self, routes: Sequence[Route]) -> None:
        assert self.control is not None  # noqa: S101 (checks that change routes run with a control only)
        self._in_force = ()  # unknown, until it is
        await self.control.apply(self.document(routes))
        self._in_force = routes

    def document(self, routes: Sequence[Route]) -> dict[str, Any]:
        """A new table of routes, see :func:`lab.plugins.conform.table.document`."""
        self._revision += 1
        addresses = {name: model.address for name, model in self.models.items()}
        return document(routes, addresses, address=self.target.address, form=self.form, revision=self._revision)

    async def settled(self, key: str, model: str, within_s: float = FOLLOWS_WITHIN_S) -> Answer:
        """Asks until this model answers requests with this key, or until it is late; the last answer."""
        return await self.until(key, lambda answer: answer.model == model, within_s)

    async def until(
        self, key: str, holds: Callable[[Answer], bool], within_s: float = FOLLOWS_WITHIN_S, **options: Any
    ) -> Answer:
        """Asks until an answer is as wanted, or until it is late; the last answer."""
        deadline = time.monotonic() + within_s
        while True:
            answer = await self.call(key, **options)
            if holds(answer) or time.monotonic() > deadline:
                return answer
            await asyncio.sleep(_PAUSE_S)

    @asynccontextmanager
    async def traffic(
        self, *keys: str, connections: int = 4, pause_s: float = 0.005
    ) -> AsyncIterator[list[list[tuple[str, Answer]]]]:
        """Sends requests while the body runs: over each connection one after the other, with the keys in turn.

        Yields:
            For each connection the keys and answers so far, in order; complete after the body.
        """
        histories: list[list[tuple[str, Answer]]] = [[] for _ in range(connections)]
        ended = asyncio.Event()

        async def caller(history: list[tuple[str, Answer]]) -> None:
            async with self.channel() as channel:
                while not ended.is_set():
                    history += [(key, await self.call(key, channel=channel)) for key in keys]
                    await asyncio.sleep(pause_s)

        async with asyncio.TaskGroup() as group:
            for history in histories:
                group.create_task(caller(history))
            try:
                yield histories
            finally:
                ended.set()


def _plain(metadata: Any) -> Metadata:
    return tuple((str(name), value) for name, value in metadata or ())
