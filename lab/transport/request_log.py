"""A service's request log: one line of JSON a request, written in batches to cost requests little time."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import orjson

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
    from pathlib import Path

    Describe = Callable[[Mapping[str, Any], Any, Any], tuple[object, ...]]

_FLUSH_INTERVAL_S = 0.25


class RequestLog:
    """Appends to a file.

    Args:
        path: the file; None logs nothing.
        fields: names of the values that :meth:`write` takes; ``time``, in Unix seconds, precedes them.
    """

    def __init__(self, path: Path | None, fields: tuple[str, ...]) -> None:
        self._file = None if path is None else path.open("ab", buffering=0)
        self._fields = ("time", *fields)
        self._entries: list[tuple[object, ...]] = []

    def write(self, *values: object) -> None:
        """Logs a request that is done."""
        if self._file is not None:
            self._entries.append((time.time(), *values))

    async def run(self) -> None:
        """Flushes periodically until cancelled, then once more."""
        try:
            while True:
                await asyncio.sleep(_FLUSH_INTERVAL_S)
                self.flush()
        finally:
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
        if self._file is None or not self._entries:
            return
        entries, self._entries = self._entries, []
        lines = [orjson.dumps(dict(zip(self._fields, entry, strict=True))) for entry in entries]
        self._file.write(b"\n".join((*lines, b"")))

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
        make: Callable[..., grpc.RpcMethodHandler[Any, Any]]
        if handler.response_streaming:
            make, behaviour = grpc.unary_stream_rpc_method_handler, self._streaming(handler, headers)
        else:
            make, behaviour = grpc.unary_unary_rpc_method_handler, self._unary(handler, headers)
        return make(
            behaviour,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _unary(self, handler: Any, headers: Mapping[str, Any]) -> Any:
        async def behaviour(request: Any, context: Any) -> Any:
            began, response = time.perf_counter(), None
            try:
                response = await handler.unary_unary(request, context)
                return response
            finally:
                status = "OK" if response is not None else _failure(context)
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
                status = "OK" if ended else _failure(context)
                self._done(began, status, self._describe(headers, request, None))

        return behaviour

    def _done(self, began: float, status: str, values: tuple[object, ...]) -> None:
        self._log.write(*values, status, (time.perf_counter() - began) * 1000)


def _failure(context: Any) -> str:
    """Name of the status that a handler ended with; a handler without one was cancelled by its client."""
    code: grpc.StatusCode | None = context.code()
    return "CANCELLED" if code is None else code.name
