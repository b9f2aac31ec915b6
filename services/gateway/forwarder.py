"""Forwards requests: decides each, admits it, sends it to a model replica, and returns the answer."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import grpc.aio

from lab.client.rpc_channel import explained
from lab.errors import CallerNotAllowedError, NoDecisionError, UnknownUseCaseError, UnknownVersionError
from lab.plain_text import printable
from lab.routing import headers
from lab.routing.compiled import Router
from lab.routing.headers import PREFILLER
from lab.routing.rules import UseCase, shown
from lab.transport import answer_of, expose, items_of, proved_caller
from models.apis import METHODS, Method
from models.context import read_envelope
from services.gateway.forms import Form, opaque, parsed
from services.gateway.hedging import first_answer
from services.gateway.request import FailedError, FullError, GatewayRequest, decision_of
from services.gateway.stream_headers import StreamHeaders
from services.gateway.tenant_quota import Limiter, NotItsTenantError, OverLimitError, TenantQuota
from services.rules import DecisionCache, RuleSet, Staged, decisions_of

if TYPE_CHECKING:
    from lab.routing.attempts import Decision
    from lab.transport.rpc_logs import RequestLog
    from models.proto.serving.v1 import serving_pb2
    from services.gateway.channel_pool import Connection
    from services.gateway.pool import Backend, Pool
    from services.gateway.replicas import Replicas
    from services.gateway.shadow_sender import PoolShadowSender

    _Context = grpc.aio.ServicerContext[Any, Any]

_SHOWN = 60  # characters of a name that may be anything
LOG_FIELDS = ("request_id", "use_case", "caller", "routing_key", "revision", "status", "ms")
_REFUSALS = {
    UnknownUseCaseError: grpc.StatusCode.NOT_FOUND,
    UnknownVersionError: grpc.StatusCode.NOT_FOUND,
    CallerNotAllowedError: grpc.StatusCode.PERMISSION_DENIED,
}


class Attempt(NamedTuple):
    """Where one attempt goes: the replicas of its target, and the connection to one of them."""

    backend: Backend | Replicas
    connection: Connection


class Forwarder(grpc.GenericRpcHandler):
    """Handles the RPCs of every inference API.

    Args:
        name: this gateway's, for ids and messages.
        pool: connections to the replicas.
        access_log: gets a line a request, with :data:`LOG_FIELDS`.
        shadows: sends the shadows' copies.
        limiter: admits requests by their tenants' quotas.
    """

    def __init__(
        self, *, name: str, pool: Pool, access_log: RequestLog, shadows: PoolShadowSender, limiter: Limiter
    ) -> None:
        self._name = name
        self._vias = {
            is_parsed: (headers.VIA, headers.via("gateway", name, headers.PARSED if is_parsed else headers.PASSED_ON))
            for is_parsed in (True, False)
        }
        self._pool = pool
        self._access_log = access_log
        self._shadows = shadows
        self._limiter = limiter
        self._decisions = DecisionCache(Router.empty(), decision_of)
        self._numbers = itertools.count(1)
        self._handlers = {path: self._handler(method, parsed(method)) for path, method in METHODS.items()}
        self._passthrough_handlers = {path: self._handler(method, opaque(method)) for path, method in METHODS.items()}
        self._unary_handlers: dict[str, Callable[[Any, Any], Awaitable[Any]]] = {
            path: self._unary(method, parsed(method)) for path, method in METHODS.items() if not method.streaming
        }
        self._use_cases: Mapping[str, UseCase] = {}
        self._staged: Staged | None = None
        expose("lab_decisions_kept", "Different decisions of this revision.", lambda: len(self._decisions))

    async def put_in_force(self, rules: RuleSet) -> None:
        """Connects to the replicas, then routes by these rules."""
        decisions = decisions_of(rules, decision_of)
        await self._pool.put_in_force(rules)
        self._decisions, self._use_cases, self._staged = decisions, rules.use_cases, rules.staged
        self._limiter.put_in_force(rules.limits)

    @property
    def revision(self) -> int:
        """By which it decides; 0 without rules."""
        return self._decisions.revision

    def use_case(self, name: str, caller: str = "") -> UseCase | None:
        """A use case by the rules in force for a caller, or for any; None if there is no such use case."""
        staged = self._staged
        return (staged.router.use_cases if staged and caller in staged.callers else self._use_cases).get(name)

    def unary_handler(self, method: Method) -> Callable[[Any, Any], Awaitable[Any]]:
        """The handler of a unary RPC, for requests that are parsed already; its context needs the methods of gRPC's."""
        return self._unary_handlers[method.path]

    def stream_handler(self, method: Method) -> Callable[[Any, Any], AsyncGenerator[Any]]:
        """The same of an RPC with a stream of answers."""
        handler: Callable[[Any, Any], AsyncGenerator[Any]] = self._streaming(method, parsed(method))
        return handler

    def use_cases_of(self, api: str) -> list[str]:
        """Names of the use cases of an API."""
        return sorted(name for name, each in self._use_cases.items() if each.api == api)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of a method; None if it belongs to no inference API."""
        for name, _ in handler_call_details.invocation_metadata or ():
            if name == headers.ENVELOPE:
                return self._passthrough_handlers.get(handler_call_details.method)
        return self._handlers.get(handler_call_details.method)

    def _handler(self, method: Method, form: Form) -> grpc.RpcMethodHandler[Any, Any]:
        make: Callable[..., grpc.RpcMethodHandler[Any, Any]]
        if method.streaming:
            make, behaviour = grpc.unary_stream_rpc_method_handler, self._streaming(method, form)
        else:
            make, behaviour = grpc.unary_unary_rpc_method_handler, self._unary(method, form)
        return make(behaviour, request_deserializer=form.deserialise, response_serializer=form.serialise)

    def _unary(self, method: Method, form: Form) -> Any:
        async def forward(received: Any, context: _Context) -> Any:
            request = await self._begin(form, received, context)
            try:
                with self._ending(request):
                    while True:
                        attempt = await self._next(request)
                        if request.attempts.hurried and not request.attempts.made:
                            # It may not wait for the end, and learns the use case's timeout from these.
                            await context.send_initial_metadata(request.attempts.target.answer_headers)
                        try:
                            if attempt.backend.hedge is None:
                                response = await self._ask(request, attempt, method, form)
                            else:
                                response = await self._hedged(request, attempt, method, form)
                        except grpc.aio.AioRpcError as error:
                            await self._move_on(request, attempt, error)
                        else:
                            # Beside the status and not before the answer, which would be one more write a request.
                            context.set_trailing_metadata(request.attempts.answer_headers())
                            return response
            except FailedError as failed:
                await context.abort(failed.code, failed.details, request.attempts.answer_headers(failed.code.name))

        return forward

    def _streaming(self, method: Method, form: Form) -> Any:
        async def forward(received: Any, context: _Context) -> AsyncIterator[Any]:
            request = await self._begin(form, received, context)
            done, its_headers = False, StreamHeaders(request, context)
            try:
                with self._ending(request):
                    while not done:
                        attempt = await self._next(request)
                        its_headers.begin_attempt()
                        rpc = attempt.connection.channel.rpc(method, parsed=form.parsed)
                        stream = self._send(request, rpc, method, form, request.remaining_s())
                        failure: grpc.aio.AioRpcError | None = None
                        try:
                            async for response in items_of(stream, request.remaining_s()):
                                await its_headers.send()
                                yield response
                            done = True
                        except grpc.aio.AioRpcError as error:
                            failure = error
                        finally:
                            stream.cancel()
                            ended = failure.code() if failure is not None else None
                            attempt.connection.release(grpc.StatusCode.OK if done else ended, request)
                        if failure is not None:
                            await self._move_on(request, attempt, failure, begun=its_headers.begun)
            except FailedError as failed:
                await its_headers.settle()
                await context.abort(failed.code, failed.details, request.attempts.answer_headers(failed.code.name))
            finally:
                its_headers.close()

        return forward

    @contextmanager
    def _ending(self, request: GatewayRequest) -> Iterator[None]:
        """Ends the request with the context, before a failure is sent: its caller may ask again at once."""
        status = "CANCELLED"
        try:
            yield
            status = "OK"
        except FailedError as failed:
            status = failed.code.name
            raise
        finally:
            self._end(request, status)

    async def _begin(self, form: Form, received: Any, context: _Context) -> GatewayRequest:
        try:
            message, payload = form.open(received, context)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        try:
            fields = read_envelope(message.envelope)
            request_id = message.envelope.request_id or f"{self._name}-{next(self._numbers):08x}"
            return GatewayRequest(message, context, request_id, payload, form.api, fields)
        except ValueError as error:
            reason = f"{printable(message.envelope.use_case, _SHOWN)}: {error}"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)

    def _end(self, request: GatewayRequest, status: str) -> None:
        if request.quota is not None:
            self._limiter.leave(request.quota)
        attempts, envelope = request.attempts, request.envelope
        attempts.end_retry()
        self._access_log.write(
            attempts.request_id,
            envelope.use_case,
            envelope.context.caller,
            attempts.target.routing_key,
            attempts.decision.revision,
            status,
            (time.monotonic() - attempts.began) * 1000,
        )

    async def _next(self, request: GatewayRequest) -> Attempt:
        """Where the next attempt goes; decides first if a decision is needed. The connection counts the attempt."""
        attempts = request.attempts
        if attempts.undecided:
            proved = _verify_caller(request)
            decision = self._decide(request)
            if request.quota is None:
                request.quota = self._admit(request.envelope, proved)
            attempts.decided(decision)
        while True:
            key = attempts.target.routing_key
            code, reason = grpc.StatusCode.UNAVAILABLE, "no healthy replica"
            backend = self._pool.backend(key)
            if backend is not None:
                try:
                    queue, tried = backend.queue, attempts.tried
                    connection = backend.take(tried, request) if queue is None else await queue.take(tried, request)
                    if connection is not None:
                        return Attempt(backend, connection)
                    if backend is not self._pool.backend(key):
                        continue  # other replicas have taken their place while the request waited
                except FullError as full:
                    code, reason = full.code, str(full)
            if not attempts.fall_back(code.name, time.monotonic()):
                raise FailedError(code, f"{attempts.use_case} ({key}): {reason}{attempts.failures}")

    def _decide(self, request: GatewayRequest) -> Decision:
        use_case = request.envelope.use_case
        if not self._decisions.revision:
            reason = f"use case {use_case!r}: gateway {self._name} has no rules yet"
            raise FailedError(grpc.StatusCode.UNAVAILABLE, reason)
        try:
            decision = self._decisions.look_up(use_case, request.fields)
        except NoDecisionError as error:
            raise FailedError(_REFUSALS[type(error)], str(error)) from None
        known = self.use_case(use_case, request.fields.get("caller", ""))
        if known is not None and known.api != request.api:
            reason = f"use case {shown(use_case)} is of {known.api} by the route table; call that, not {request.api}"
            raise FailedError(grpc.StatusCode.INVALID_ARGUMENT, reason)
        return decision

    def _admit(self, envelope: serving_pb2.Envelope, proved: str) -> TenantQuota:
        """Charges the request to its tenant's quota; requests that the rules refuse are not charged."""
        context = envelope.context
        try:
            return self._limiter.enter(context.tenant, envelope.use_case, context.caller, proved=bool(proved))
        except NotItsTenantError as error:
            raise FailedError(grpc.StatusCode.PERMISSION_DENIED, str(error)) from None
        except OverLimitError as error:
            # A share may be used up at one gateway alone: the checkers ask whose it was.
            raise FailedError(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{error} (gateway {self._name})") from None

    async def _ask(self, request: GatewayRequest, attempt: Attempt, method: Method, form: Form) -> Any:
        """One attempt at one replica; returns its answer."""
        (backend, connection), code = attempt, None
        try:
            timeout_s = request.remaining_s()
            if backend.budget is not None:
                timeout_s = backend.budget.attempt_timeout_s(timeout_s)
            rpc = connection.channel.rpc(method, parsed=form.parsed)
            response = await answer_of(self._send(request, rpc, method, form, timeout_s), timeout_s)
            code = grpc.StatusCode.OK
        except grpc.aio.AioRpcError as error:
            code = error.code()
            raise
        else:
            return response
        finally:
            connection.release(code, request)

    async def _hedged(self, request: GatewayRequest, attempt: Attempt, method: Method, form: Form) -> Any:
        """One attempt, and a second one beside it if the first is slow or fails; returns the first good answer."""
        attempts, (backend, connection) = request.attempts, attempt
        hedge, budget, queue = backend.hedge, backend.budget, backend.queue
        assert hedge is not None  # noqa: S101 (the caller has looked)
        assert budget is not None  # noqa: S101 (a hedge has one)

        def second(failure: grpc.aio.AioRpcError | None) -> Coroutine[Any, Any, Any] | None:
            if queue is not None and not queue.is_open:
                return None
            if not attempts.may_repeat or not budget.grant_hedge(failure.code().name if failure else ""):
                return None
            attempts.begin_retry(budget, connection)
            try:
                other = backend.take(attempts.tried, request)
            except FullError:
                return None
            return None if other is None else self._ask(request, Attempt(backend, other), method, form)

        return await first_answer(self._ask(request, attempt, method, form), second, hedge.after_s)

    def _send(self, request: GatewayRequest, rpc: Any, method: Method, form: Form, timeout_s: float) -> Any:
        """Fills in the model's configuration, sends, and has the shadow's copy sent if one is due; returns the call."""
        attempts, envelope = request.attempts, request.envelope
        target = attempts.target
        envelope.request_id = attempts.request_id
        target.fill(envelope)
        payload = request.payload + request.message.SerializeToString()
        shadowed, left = attempts.begin(), attempts.retry_headers
        if request.prefiller:
            left = (*left, (PREFILLER, request.prefiller))
        call = rpc(
            payload,
            timeout=timeout_s,
            metadata=(*target.headers, self._vias[form.parsed], (headers.REQUEST_ID, attempts.request_id), *left),
        )
        if shadowed:
            self._shadows.copy(method, payload, routing_key=attempts.shadow, request_id=attempts.request_id)
        return call

    async def _move_on(
        self, request: GatewayRequest, attempt: Attempt, error: grpc.aio.AioRpcError, *, begun: bool = False
    ) -> None:
        """Returns, after the pause before a retry, if another attempt follows the failed one.

        Raises:
            FailedError: none follows, as always if the caller has the answer's headers already (``begun``).
        """
        attempts = request.attempts
        code, details = explained(
            error,
            use_case=attempts.use_case,
            routing_key=attempts.target.routing_key,
            timeout_s=attempts.decision.timeout_s,
        )
        if begun:
            raise FailedError(code, details) from None
        backend, connection = attempt
        pause_s = attempts.failed(code.name, time.monotonic(), budget=backend.budget, connection=connection)
        if pause_s is None:
            raise FailedError(code, details + attempts.failures) from None
        if pause_s:
            await asyncio.sleep(pause_s)


def _verify_caller(request: GatewayRequest) -> str:
    """The caller that the connection proves; empty if it proves none. Fills it in if the request names no caller.

    Raises:
        FailedError: the request names another caller.
    """
    proved = proved_caller(request.context)
    if proved:
        envelope = request.envelope
        claimed = envelope.context.caller
        if claimed not in ("", proved):
            raise FailedError(
                grpc.StatusCode.PERMISSION_DENIED,
                f"use case {shown(envelope.use_case)}: you are {proved}, and may not ask as caller {shown(claimed)}",
            )
        envelope.context.caller = request.fields["caller"] = proved
    return proved
