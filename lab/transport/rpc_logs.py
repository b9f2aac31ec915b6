"""Logs of RPCs, kept by interceptors: a service's request log, and the audit log of what changes state or is refused.

The request log has one line of JSON a request, written in batches to cost requests little time.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import grpc
import grpc.aio
import orjson
from google.protobuf import text_format

from lab.clock import lab_time_ns
from lab.errors import LabError
from lab.plain_text import printable
from lab.transport import tracing
from lab.transport.handlers import failure_of, kind_of, with_behaviour
from lab.transport.security import peer_identity

if TYPE_CHECKING:
    from google.protobuf.message import Message

    Context = grpc.aio.ServicerContext[Any, Any]
    Describe = Callable[[Mapping[str, Any], Any, Any], tuple[object, ...]]
    Summarise = Callable[[Any], str]
    _Entry = tuple[float, Mapping[str, str], tuple[object, ...]]

REFUSED = grpc.StatusCode.PERMISSION_DENIED.name
# Of an act's detail; the whole may be a route table.
_MOST_CHARACTERS = 500
_FLUSH_INTERVAL_S = 0.25
# Of a request log whose disk is full or stalled: entries, and bytes, that wait for it.
_MOST_ENTRIES, _MOST_BYTES = 50_000, 4 * 1024 * 1024

_log = logging.getLogger(__name__)


class RequestLog:
    """Appends to a file. While its disk is full or stalled, some lines wait, and the others are dropped and counted.

    Args:
        path: the file; None logs nothing.
        fields: names of the values that :meth:`write` takes; ``time``, in Unix seconds, precedes them, and ``trace_id``
            and ``span_id`` follow where the request is traced.
    """

    def __init__(self, path: Path | None, fields: tuple[str, ...]) -> None:
        self._path = path
        self._file = None if path is None else path.open("ab", buffering=0)
        self._fields = fields
        self._entries: list[_Entry] = []
        self._waiting = b""
        self._dropped = 0
        self._is_full = False

    def write(self, *values: object) -> None:
        """Logs a request that is done."""
        if self._file is None:
            return
        if len(self._entries) < _MOST_ENTRIES:
            self._entries.append((lab_time_ns() / 1e9, tracing.ids(), values))
        else:
            self._dropped += 1

    async def run(self) -> None:
        """Flushes periodically until cancelled, then once more."""
        flushing: asyncio.Task[None] | None = None
        try:
            while True:
                await asyncio.sleep(_FLUSH_INTERVAL_S)
                if self.up_to_date:
                    continue
                # In a thread: a disk that stalls holds the log, not the requests.
                flushing = asyncio.create_task(asyncio.to_thread(self._append, self._taken()))
                await asyncio.shield(flushing)
        finally:
            if flushing is not None:
                await asyncio.gather(flushing, return_exceptions=True)
            self.flush()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Flushes periodically while the context lasts, and closes the file at its end."""
        task = asyncio.create_task(self.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.close()

    def flush(self) -> None:
        """Writes the buffered lines."""
        self._append(self._taken())

    @property
    def up_to_date(self) -> bool:
        """Whether no line waits to be written."""
        return not (self._entries or self._waiting)

    def _taken(self) -> list[_Entry]:
        entries, self._entries = self._entries, []
        return entries

    def _append(self, entries: Sequence[_Entry]) -> None:
        if self._file is None or not (entries or self._waiting):
            return
        if len(self._waiting) < _MOST_BYTES:
            lines = [
                orjson.dumps({"time": at, **dict(zip(self._fields, values, strict=True)), **ids})
                for at, ids, values in entries
            ]
            self._waiting += b"\n".join((*lines, b""))
        else:
            self._dropped += len(entries)
        try:
            # A full disk may take a part of a line; the rest follows once there is space.
            self._waiting = self._waiting[self._file.write(self._waiting) or 0 :]
        except OSError as error:
            if not self._is_full:
                _log.warning("%s: %s: requests wait to be logged, up to %d bytes", self._path, error, _MOST_BYTES)
            self._is_full = True
            return
        if self._is_full and not self._waiting:
            _log.warning("%s: written again; %d requests were not logged", self._path, self._dropped)
            self._is_full, self._dropped = False, 0

    def close(self) -> None:
        """Flushes and closes the file."""
        self.flush()
        if self._file is not None:
            self._file.close()


class LogsRequests(grpc.aio.ServerInterceptor):
    """Logs each RPC of some methods when it is done.

    Args:
        log: takes the lines; its last two fields are ``status`` and ``ms``.
        methods: paths of the RPCs to log, ``/ranking.v1.Ranking/Rank``.
        describe: ``(headers, request, response) -> values`` of the other fields; the response is None if the RPC failed
            or is a stream.
    """

    def __init__(self, log: RequestLog, methods: Collection[str], describe: Describe) -> None:
        self._log, self._methods, self._describe = log, frozenset(methods), describe

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wraps the handlers of the methods to log."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method not in self._methods:
            return handler
        headers: dict[str, Any] = dict(handler_call_details.invocation_metadata)
        wrap = self._streaming if handler.response_streaming else self._unary
        return with_behaviour(handler, wrap(handler, headers))

    def _unary(self, handler: Any, headers: Mapping[str, Any]) -> Any:
        async def behaviour(request: Any, context: Any) -> Any:
            began, response = time.perf_counter(), None
            try:
                response = await handler.unary_unary(request, context)
                return response
            finally:
                status = "OK" if response is not None else failure_of(context)
                self._done(began, status, self._describe(headers, request, response))

        return behaviour

    def _streaming(self, handler: Any, headers: Mapping[str, Any]) -> Any:
        async def behaviour(request: Any, context: Any) -> AsyncIterator[Any]:
            began, ended = time.perf_counter(), False
            try:
                async for response in handler.unary_stream(request, context):
                    yield response
                ended = True
            finally:
                status = "OK" if ended else failure_of(context)
                self._done(began, status, self._describe(headers, request, None))

        return behaviour

    def _done(self, began: float, status: str, values: tuple[object, ...]) -> None:
        self._log.write(*values, status, (time.perf_counter() - began) * 1000)


@dataclass(frozen=True, slots=True)
class Act:
    """One call of a state-changing RPC.

    Attributes:
        at_ns: Unix nanoseconds.
        who: SPIFFE id that the connection proves; else ``unproved`` and the peer's address.
        unit: that is called.
        what: full name of the RPC.
        detail: its arguments, shortened.
    """

    at_ns: int
    who: str
    unit: str
    what: str
    detail: str


class Journal(Protocol):
    """Stores acts."""

    def begin(self, act: Act) -> int:
        """Stores an act before it is done; returns its number."""

    def end(self, number: int, status: str, reason: str) -> None:
        """Stores an act's outcome: name of the status, and why it failed."""

    def refused(self, act: Act, reason: str) -> None:
        """Stores an act that was refused."""


class Audited(grpc.aio.ServerInterceptor):
    """Records RPCs in a journal; an RPC that cannot be recorded is not carried out.

    Args:
        unit: this one's name.
        methods: paths of the RPCs to record, ``/control.v1.Admin/Publish``. Each takes one request.
        journal: stores the acts.
        describe: summary of a request; its text form by default.
        all_refusals: also records each call of any other RPC that ends with PERMISSION_DENIED. It costs each call a
            moment, so not on the data path.
    """

    def __init__(
        self,
        unit: str,
        methods: Collection[str],
        journal: Journal,
        describe: Summarise | None = None,
        *,
        all_refusals: bool = False,
    ) -> None:
        self._unit, self._methods, self._journal = unit, frozenset(methods), journal
        self._all_refusals = all_refusals
        self._describe = describe or in_one_line

    def refused(self, method: str, context: Context, code: grpc.StatusCode, reason: str) -> None:
        """Records a caller that was refused before its request was read, if it is refused for its identity."""
        if (method in self._methods or self._all_refusals) and code is grpc.StatusCode.PERMISSION_DENIED:
            self._journal.refused(self._act(method, context, ""), reason)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """See gRPC."""
        handler: Any = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return None
        if method not in self._methods:
            return with_behaviour(handler, self._watched(method, handler)) if self._all_refusals else handler
        if handler.response_streaming:
            return with_behaviour(handler, self._streaming(method, handler.unary_stream))
        return with_behaviour(handler, self._unary(method, handler.unary_unary))

    def _watched(self, method: str, handler: Any) -> Any:
        behave = getattr(handler, kind_of(handler))

        async def one(request: Any, context: Context) -> Any:
            try:
                return await behave(request, context)
            finally:
                self.refused(method, context, context.code(), str(context.details()))

        async def several(request: Any, context: Context) -> AsyncIterator[Any]:
            try:
                async with aclosing(behave(request, context)) as responses:
                    async for response in responses:
                        yield response
            finally:
                self.refused(method, context, context.code(), str(context.details()))

        return several if inspect.isasyncgenfunction(behave) else one

    def _unary(self, method: str, handle: Any) -> Any:
        async def behaviour(request: Any, context: Context) -> Any:
            async with self._recorded(method, context, request):
                return await handle(request, context)

        return behaviour

    def _streaming(self, method: str, handle: Any) -> Any:
        async def behaviour(request: Any, context: Context) -> AsyncIterator[Any]:
            async with self._recorded(method, context, request):
                async for response in handle(request, context):
                    yield response

        return behaviour

    @asynccontextmanager
    async def _recorded(self, method: str, context: Context, request: Any) -> AsyncIterator[None]:
        number = await self._begin(method, context, request)
        done = False
        try:
            yield
            done = True
        finally:
            self._end(number, context, done=done)

    async def _begin(self, method: str, context: Context, request: Any) -> int:
        try:
            return self._journal.begin(self._act(method, context, self._describe(request)))
        except LabError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    def _act(self, method: str, context: Context, detail: str) -> Act:
        identity = peer_identity(context)
        who = f"unproved {context.peer()}" if identity is None else identity.uri
        return Act(lab_time_ns(), who, self._unit, method.lstrip("/"), printable(detail, _MOST_CHARACTERS))

    def _end(self, number: int, context: Context, *, done: bool) -> None:
        if done:
            self._journal.end(number, grpc.StatusCode.OK.name, "")
            return
        self._journal.end(number, failure_of(context), printable(str(context.details() or ""), _MOST_CHARACTERS))


def in_one_line(request: Message) -> str:
    """A request's text form."""
    return text_format.MessageToString(request, as_one_line=True)
