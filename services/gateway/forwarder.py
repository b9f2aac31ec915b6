"""Each request on its way through: parsed, decided, sent on, and its answer brought back."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from lab.client import headers
from lab.client.status import explained
from lab.errors import CallerNotAllowedError, NoDecisionError, UnknownUseCaseError, UnknownVersionError
from lab.routing.compiled import Router
from lab.routing.keys import HEADER
from models.apis import METHODS
from models.context import read_context
from services.rules import Book, RuleSet, model_config

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from lab.routing.compiled import Choice
    from models.apis import Method
    from models.proto.serving.v1 import serving_pb2
    from services.gateway.access_log import AccessLog
    from services.gateway.pool import Backend, Pool

    _Context = grpc.aio.ServicerContext[Any, Any]

_REFUSALS = {
    UnknownUseCaseError: grpc.StatusCode.NOT_FOUND,
    UnknownVersionError: grpc.StatusCode.NOT_FOUND,
    CallerNotAllowedError: grpc.StatusCode.PERMISSION_DENIED,
}
_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class _Route:
    """What all requests with one choice have in common.

    Attributes:
        to_model: headers on the way to the model.
        told: what the caller is told about the decision.
    """

    key: str
    revision: int
    timeout_s: float
    model_config: serving_pb2.ModelConfig
    to_model: tuple[tuple[str, str], ...]
    told: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, choice: Choice) -> _Route:
        key = (HEADER, choice.routing_key)
        told = (key, (headers.REVISION, str(choice.revision)))
        return cls(choice.routing_key, choice.revision, choice.timeout_s, model_config(choice), (key,), told)


class _FailedError(Exception):
    """The request ends here, with this status."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code, self.details = code, details


class _Passage:
    """One request on its way. Made once a request, so it holds what is needed and nothing else."""

    __slots__ = ("attempts", "began", "context", "envelope", "request", "request_id", "route")

    def __init__(self, request: Any, context: _Context, request_id: str) -> None:
        self.began = time.perf_counter()
        self.request = request
        self.context = context
        self.envelope = request.envelope
        self.request_id = request_id
        self.route: _Route | None = None
        self.attempts = 0

    def timeout_s(self, route: _Route) -> float:
        """What is left: of the rule's timeout, or of the caller's patience if that is less."""
        mine = route.timeout_s - (time.perf_counter() - self.began)
        callers: float | None = self.context.time_remaining()
        return max(0.0, mine if callers is None else min(mine, callers))

    def told(self) -> tuple[tuple[str, str], ...]:
        """What the caller is told about the decision, so far as there was one."""
        if self.route is None:
            return ()
        if self.attempts == 1:
            return self.route.told
        return (*self.route.told, (headers.ATTEMPTS, str(self.attempts)))


class Forwarder(grpc.GenericRpcHandler):
    """Takes the RPCs of every inference API.

    Args:
        name: this gateway's, for ids and messages.
        pool: where the replicas are.
        access_log: gets a line a request.
    """

    def __init__(self, *, name: str, pool: Pool, access_log: AccessLog) -> None:
        self._name = name
        self._pool = pool
        self._access_log = access_log
        self._book = Book(Router.empty(), _Route.of)
        self._numbers = itertools.count(1)
        self._handlers = {path: self._handler(method) for path, method in METHODS.items()}

    async def put_in_force(self, rules: RuleSet) -> None:
        """Routes by these rules from now on; returns once the replicas are connected and the rules are in force."""
        book = Book(rules.router, _Route.of)
        await self._pool.put_in_force(rules.endpoints)
        self._book = book

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of one method; None if it belongs to no inference API."""
        return self._handlers.get(handler_call_details.method)

    def _handler(self, method: Method) -> grpc.RpcMethodHandler[Any, Any]:
        make: Callable[..., grpc.RpcMethodHandler[Any, Any]]
        if method.streaming:
            make, behaviour = grpc.unary_stream_rpc_method_handler, self._streaming(method)
        else:
            make, behaviour = grpc.unary_unary_rpc_method_handler, self._unary(method)
        return make(
            behaviour,
            request_deserializer=method.request_class.FromString,
            response_serializer=method.response_class.SerializeToString,
        )

    def _unary(self, method: Method) -> Any:
        async def forward(request: Any, context: _Context) -> Any:
            passage = self._begin(request, context)
            status = "CANCELLED"
            try:
                while True:
                    route, backend = self._next(passage)
                    try:
                        response = await backend.wire.unary(method)(
                            request.SerializeToString(),
                            timeout=passage.timeout_s(route),
                            metadata=(*route.to_model, (headers.REQUEST_ID, passage.request_id)),
                        )
                    except grpc.aio.AioRpcError as error:
                        self._retry_or_fail(passage, route, error)
                    else:
                        # Beside the status and not before the answer: that would be one more write a request.
                        context.set_trailing_metadata(passage.told())
                        status = "OK"
                        return response
                    finally:
                        backend.release()
            except _FailedError as failed:
                status = failed.code.name
                await context.abort(failed.code, failed.details, passage.told())
            finally:
                self._end(passage, status)

        return forward

    def _streaming(self, method: Method) -> Any:
        async def forward(request: Any, context: _Context) -> AsyncIterator[Any]:
            passage = self._begin(request, context)
            status, items = "CANCELLED", 0
            try:
                while status != "OK":
                    route, backend = self._next(passage)
                    stream = backend.wire.stream(method)(
                        request.SerializeToString(),
                        timeout=passage.timeout_s(route),
                        metadata=(*route.to_model, (headers.REQUEST_ID, passage.request_id)),
                    )
                    try:
                        async for response in stream:
                            if not items:
                                await context.send_initial_metadata(passage.told())
                            items += 1
                            yield response
                        status = "OK"
                    except grpc.aio.AioRpcError as error:
                        self._retry_or_fail(passage, route, error, retryable=not items)
                    finally:
                        stream.cancel()
                        backend.release()
            except _FailedError as failed:
                status = failed.code.name
                await context.abort(failed.code, failed.details, passage.told())
            finally:
                self._end(passage, status)

        return forward

    def _begin(self, request: Any, context: _Context) -> _Passage:
        request_id = request.envelope.request_id or f"{self._name}-{next(self._numbers):08x}"
        return _Passage(request, context, request_id)

    def _end(self, passage: _Passage, status: str) -> None:
        envelope, route = passage.envelope, passage.route
        self._access_log.add(
            request_id=passage.request_id,
            use_case=envelope.use_case,
            caller=envelope.context.caller,
            key=route.key if route else "",
            revision=route.revision if route else 0,
            status=status,
            began=passage.began,
        )

    def _next(self, passage: _Passage) -> tuple[_Route, Backend]:
        """Decides, and fills in what the model needs; the backend counts one request more."""
        envelope = passage.envelope
        use_case = envelope.use_case
        if not self._book.revision:
            reason = f"use case {use_case!r}: gateway {self._name} has no rules yet"
            raise _FailedError(grpc.StatusCode.UNAVAILABLE, reason)
        try:
            route = passage.route = self._book.look_up(use_case, read_context(envelope.context))
        except NoDecisionError as error:
            raise _FailedError(_REFUSALS[type(error)], str(error)) from None
        backend = self._pool.backend(route.key)
        if backend is None:
            raise _FailedError(grpc.StatusCode.UNAVAILABLE, f"{use_case} ({route.key}): no healthy replica")
        envelope.request_id = passage.request_id
        envelope.model_config.CopyFrom(route.model_config)
        passage.attempts += 1
        backend.in_flight += 1
        return route, backend

    def _retry_or_fail(
        self, passage: _Passage, route: _Route, error: grpc.aio.AioRpcError, *, retryable: bool = True
    ) -> None:
        """Returns if this was a tear that a new decision may mend; passes every other error on."""
        torn = error.code() is grpc.StatusCode.FAILED_PRECONDITION
        if torn and retryable and passage.attempts < _ATTEMPTS:
            return
        use_case = passage.envelope.use_case
        code, details = explained(error, use_case=use_case, routing_key=route.key, timeout_s=route.timeout_s)
        raise _FailedError(code, details) from None
