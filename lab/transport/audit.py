"""Audit log: an interceptor that records each state-changing RPC, and each one that was refused."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import grpc
import grpc.aio
from google.protobuf import text_format

from lab.errors import LabError
from lab.transport.security import peer_identity

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection

    from google.protobuf.message import Message

    Context = grpc.aio.ServicerContext[Any, Any]
    Describe = Callable[[Any], str]

REFUSED = grpc.StatusCode.PERMISSION_DENIED.name
# Of an act's detail; the whole may be a route table.
_MOST_CHARACTERS = 500


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
    """

    def __init__(self, unit: str, methods: Collection[str], journal: Journal, describe: Describe | None = None) -> None:
        self._unit, self._methods, self._journal = unit, frozenset(methods), journal
        self._describe = describe or in_one_line

    def refused(self, method: str, context: Context, code: grpc.StatusCode, reason: str) -> None:
        """Records a caller that was refused before its request was read, if it is refused for its identity."""
        if method in self._methods and code is grpc.StatusCode.PERMISSION_DENIED:
            self._journal.refused(self._act(method, context, ""), reason)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """See gRPC."""
        handler: Any = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method not in self._methods:
            return handler  # type: ignore[no-any-return]
        make: Callable[..., grpc.RpcMethodHandler[Any, Any]]
        if handler.response_streaming:
            make, behaviour = grpc.unary_stream_rpc_method_handler, self._streaming(method, handler.unary_stream)
        else:
            make, behaviour = grpc.unary_unary_rpc_method_handler, self._unary(method, handler.unary_unary)
        return make(behaviour, handler.request_deserializer, handler.response_serializer)

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
        return Act(time.time_ns(), who, self._unit, method.lstrip("/"), detail[:_MOST_CHARACTERS])

    def _end(self, number: int, context: Context, *, done: bool) -> None:
        if done:
            self._journal.end(number, grpc.StatusCode.OK.name, "")
            return
        # A handler without a status was cancelled by its client.
        code: Any = context.code()
        status = code.name if isinstance(code, grpc.StatusCode) else grpc.StatusCode.CANCELLED.name
        self._journal.end(number, status, str(context.details() or "")[:_MOST_CHARACTERS])


def in_one_line(request: Message) -> str:
    """A request's text form."""
    return text_format.MessageToString(request, as_one_line=True)
