"""Handlers of RPCs, as interceptors take them apart and put them together again."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from lab.transport.memory_guard import expect_growth

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]

_HANDLERS_KEPT = 64


class WrapsHandlers(grpc.aio.ServerInterceptor):
    """Wraps each handler once: a method has few, but a server with an access log makes one for every call."""

    def __init__(self) -> None:
        self._wrapped = lru_cache(_HANDLERS_KEPT)(self.wrap)

    @abstractmethod
    def wrap(self, method: str, handler: Handler) -> Handler:
        """A handler around this one; ``method`` is the path of its RPC."""

    def lacks_method(self) -> None:
        """Called for an RPC that the server does not have."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """See gRPC."""
        handler = await continuation(handler_call_details)
        if handler is None:
            self.lacks_method()
            return None
        return self._wrapped(handler_call_details.method, handler)


def kind_of(handler: grpc.RpcMethodHandler[Any, Any]) -> str:
    """The attribute that has the handler's behaviour, such as ``unary_stream``."""
    return f"{'stream' if handler.request_streaming else 'unary'}_{'stream' if handler.response_streaming else 'unary'}"


def with_behaviour(handler: Any, behaviour: Any, read: Any = None) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler of the same kind, with the same messages and another behaviour, and if given, another deserialiser."""
    make = getattr(grpc, f"{kind_of(handler)}_rpc_method_handler")
    read = read or handler.request_deserializer
    made: grpc.RpcMethodHandler[Any, Any] = make(behaviour, read, handler.response_serializer)
    return made


MALFORMED = object()
"""In place of a request whose bytes are not a message of its method; gRPC itself would answer UNKNOWN."""


def tolerant(deserialise: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """A deserialiser that returns :data:`MALFORMED` in place of an error."""
    if deserialise is None:
        return None

    def read(wire: bytes) -> Any:
        try:
            expect_growth(len(wire))
            return deserialise(wire)
        except Exception:  # noqa: BLE001 (of protobuf's implementations, and of a unit's own reader)
            return MALFORMED

    return read


def failure_of(context: Any) -> str:
    """Name of the status that a handler ended with; a handler without one was cancelled by its client."""
    code: object = context.code()
    return code.name if isinstance(code, grpc.StatusCode) else "CANCELLED"
