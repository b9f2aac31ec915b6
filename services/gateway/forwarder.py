"""Each request on its way through: parsed or not, decided, sent on, and its answer brought back."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from lab.client import headers
from lab.client.status import explained
from lab.errors import CallerNotAllowedError, NoDecisionError, UnknownUseCaseError, UnknownVersionError
from lab.routing.compiled import Router
from lab.routing.rules import shown
from lab.transport import proved_caller
from models.apis import METHODS
from models.context import read_context
from services.gateway.attempts import FailedError, Passage, Route, Target
from services.gateway.hedging import first_answer
from services.gateway.replicas import FullError
from services.gateway.tenant_quota import NotItsTenantError, OverLimitError
from services.rules import DecisionCache, RuleSet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping

    from lab.routing.rules import UseCase
    from models.apis import Method
    from models.proto.serving.v1 import serving_pb2
    from services.gateway.access_log import AccessLog
    from services.gateway.pool import Backend, Lane, Pool
    from services.gateway.replicas import Replicas
    from services.gateway.shadow_sender import Copies
    from services.gateway.tenant_quota import Limiter, TenantQuota

    _Context = grpc.aio.ServicerContext[Any, Any]

_REFUSALS = {
    UnknownUseCaseError: grpc.StatusCode.NOT_FOUND,
    UnknownVersionError: grpc.StatusCode.NOT_FOUND,
    CallerNotAllowedError: grpc.StatusCode.PERMISSION_DENIED,
}


class Form(NamedTuple):
    """How much of the messages of a method a gateway reads.

    Attributes:
        parsed: whether it reads all, or passes payloads on as they are.
        deserialise: what came, from its bytes; None leaves them as they are.
        serialise: an answer to its bytes, likewise.
        open: a request with the envelope, and the bytes that stand before it on the way to the model, from what came.
    """

    parsed: bool
    deserialise: Callable[[bytes], Any] | None
    serialise: Callable[[Any], bytes] | None
    open: Callable[[Any, _Context], tuple[Any, bytes]]


def _parsed(method: Method) -> Form:
    """The request is all that came, and serialised again."""
    return Form(
        parsed=True,
        deserialise=method.request_class.FromString,
        serialise=method.response_class.SerializeToString,
        open=lambda received, _: (received, b""),
    )


def _opaque(method: Method) -> Form:
    """What came is left as it is, and the envelope, from its header, is written behind it.

    To protobuf, messages one behind the other are one message: fields of the later win.
    """

    def read_header(received: bytes, context: _Context) -> tuple[Any, bytes]:
        request = method.request_class()
        for name, value in context.invocation_metadata() or ():
            if name == headers.ENVELOPE:
                request.envelope.ParseFromString(value)
        return request, received

    return Form(parsed=False, deserialise=None, serialise=None, open=read_header)


class Step(NamedTuple):
    """One attempt: why there, to which version, and to which of its replicas."""

    route: Route
    target: Target
    backend: Backend | Replicas
    lane: Lane


class Forwarder(grpc.GenericRpcHandler):
    """Takes the RPCs of every inference API.

    Args:
        name: this gateway's, for ids and messages.
        pool: where the replicas are.
        access_log: gets a line a request.
        copies: takes the shadow copies.
        limiter: knows how much tenants may ask.
    """

    def __init__(self, *, name: str, pool: Pool, access_log: AccessLog, copies: Copies, limiter: Limiter) -> None:
        self._name = name
        self._pool = pool
        self._access_log = access_log
        self._copies = copies
        self._limiter = limiter
        self._decisions = DecisionCache(Router.empty(), Route.of)
        self._numbers = itertools.count(1)
        self._handlers = {path: self._handler(method, _parsed(method)) for path, method in METHODS.items()}
        self._passing_on = {path: self._handler(method, _opaque(method)) for path, method in METHODS.items()}
        self._unary_handlers: dict[str, Callable[[Any, Any], Awaitable[Any]]] = {
            path: self._unary(method, _parsed(method)) for path, method in METHODS.items() if not method.streaming
        }
        self._use_cases: Mapping[str, UseCase] = {}

    async def put_in_force(self, rules: RuleSet) -> None:
        """Routes by these rules from now on; returns once the replicas are connected and the rules are in force."""
        decisions = DecisionCache(rules.router, Route.of)
        await self._pool.put_in_force(rules.endpoints, rules.policies, rules.standby, rules.clusters)
        self._decisions, self._use_cases = decisions, rules.router.use_cases
        self._limiter.put_in_force(rules.limits)

    def api_of(self, use_case: str) -> str:
        """The API that a use case has under the rules in force; empty if there is no such use case."""
        known = self._use_cases.get(use_case)
        return known.api if known else ""

    def unary_handler(self, method: Method) -> Callable[[Any, Any], Awaitable[Any]]:
        """What takes a unary RPC's requests that are parsed already, with a context that can do what gRPC's can."""
        return self._unary_handlers[method.path]

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of one method; None if it belongs to no inference API."""
        for name, _ in handler_call_details.invocation_metadata or ():
            if name == headers.ENVELOPE:
                return self._passing_on.get(handler_call_details.method)
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
            passage = await self._begin(form, received, context)
            status = "CANCELLED"
            try:
                while True:
                    step = self._next(passage)
                    try:
                        if step.backend.hedge is None:
                            response = await self._attempt(passage, step, method, form)
                        else:
                            response = await self._hedged(passage, step, method, form)
                    except grpc.aio.AioRpcError as error:
                        await self._send_again_or_fail(passage, step, error)
                    else:
                        # Beside the status and not before the answer: that would be one more write a request.
                        context.set_trailing_metadata(passage.told())
                        status = "OK"
                        return response
            except FailedError as failed:
                status = failed.code.name
                await context.abort(failed.code, failed.details, passage.told(failed.code))
            finally:
                self._end(passage, status)

        return forward

    def _streaming(self, method: Method, form: Form) -> Any:
        async def forward(received: Any, context: _Context) -> AsyncIterator[Any]:
            passage = await self._begin(form, received, context)
            status, items = "CANCELLED", 0
            try:
                while status != "OK":
                    step = self._next(passage)
                    rpc = step.lane.wire.stream(method, parsed=form.parsed)
                    stream = self._send(passage, step, rpc, method, passage.timeout_s(step.route))
                    failure: grpc.aio.AioRpcError | None = None
                    try:
                        async for response in stream:
                            if not items:
                                await context.send_initial_metadata(passage.told())
                            items += 1
                            yield response
                        status = "OK"
                    except grpc.aio.AioRpcError as error:
                        failure = error
                    finally:
                        stream.cancel()
                        ended = failure.code() if failure is not None else None
                        step.lane.release(grpc.StatusCode.OK if status == "OK" else ended)
                    if failure is not None:
                        await self._send_again_or_fail(passage, step, failure, begun=items > 0)
            except FailedError as failed:
                status = failed.code.name
                await context.abort(failed.code, failed.details, passage.told(failed.code))
            finally:
                self._end(passage, status)

        return forward

    async def _begin(self, form: Form, received: Any, context: _Context) -> Passage:
        try:
            request, payload = form.open(received, context)
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{headers.ENVELOPE}: is no serving.v1.Envelope")
        request_id = request.envelope.request_id or f"{self._name}-{next(self._numbers):08x}"
        return Passage(request, context, request_id, payload)

    def _end(self, passage: Passage, status: str) -> None:
        if passage.quota is not None:
            self._limiter.leave(passage.quota)
        envelope, target = passage.envelope, passage.target
        passage.end_repeat()
        self._access_log.add(
            request_id=passage.request_id,
            use_case=envelope.use_case,
            caller=envelope.context.caller,
            key=target.key if target else "",
            revision=passage.revision,
            status=status,
            began=passage.began,
        )

    def _next(self, passage: Passage) -> Step:
        """Whom to send to, decided if that has not been yet; the lane counts one attempt more."""
        route, target = passage.route, passage.target
        if route is None or target is None:
            proved = _claim(passage)
            route = self._decide(passage.envelope)
            if passage.quota is None:
                passage.quota = self._let_in(passage.envelope, proved)
            target = passage.decided(route)
        while True:
            code, reason = grpc.StatusCode.UNAVAILABLE, "no healthy replica"
            backend = self._pool.backend(target.key)
            if backend is not None:
                try:
                    if (lane := backend.take(passage.tried)) is not None:
                        return Step(route, target, backend, lane)
                except FullError as full:
                    code, reason = grpc.StatusCode.RESOURCE_EXHAUSTED, str(full)
            reason = f"{passage.envelope.use_case} ({target.key}): {reason}"
            target = passage.fall_back(route, target, code, reason)

    def _decide(self, envelope: serving_pb2.Envelope) -> Route:
        use_case = envelope.use_case
        if not self._decisions.revision:
            reason = f"use case {use_case!r}: gateway {self._name} has no rules yet"
            raise FailedError(grpc.StatusCode.UNAVAILABLE, reason)
        try:
            context = read_context(envelope.context)
        except ValueError as error:
            raise FailedError(grpc.StatusCode.INVALID_ARGUMENT, f"{use_case}: {error}") from None
        try:
            return self._decisions.look_up(use_case, context)
        except NoDecisionError as error:
            raise FailedError(_REFUSALS[type(error)], str(error)) from None

    def _let_in(self, envelope: serving_pb2.Envelope, proved: str) -> TenantQuota:
        """Only whoever may ask at all uses a tenant's share up."""
        context = envelope.context
        try:
            return self._limiter.enter(context.tenant, envelope.use_case, context.caller, proved=bool(proved))
        except NotItsTenantError as error:
            raise FailedError(grpc.StatusCode.PERMISSION_DENIED, str(error)) from None
        except OverLimitError as error:
            raise FailedError(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)) from None

    async def _attempt(self, passage: Passage, step: Step, method: Method, form: Form) -> Any:
        """One answer from one replica."""
        lane, code = step.lane, None
        try:
            timeout_s = step.backend.attempt_s(passage.timeout_s(step.route))
            response = await self._send(passage, step, lane.wire.unary(method, parsed=form.parsed), method, timeout_s)
            code = grpc.StatusCode.OK
        except grpc.aio.AioRpcError as error:
            code = error.code()
            raise
        else:
            return response
        finally:
            lane.release(code)

    async def _hedged(self, passage: Passage, step: Step, method: Method, form: Form) -> Any:
        """One answer, from the first replica or, if that is slow or fails, from a second one beside it."""
        backend = step.backend

        def second(failure: grpc.aio.AioRpcError | None) -> Coroutine[Any, Any, Any] | None:
            if not backend.begin_hedge(failure.code() if failure else None):
                return None
            passage.begins_repeat(backend, step.lane)
            try:
                lane = backend.take(passage.tried)
            except FullError:
                return None
            return None if lane is None else self._attempt(passage, step._replace(lane=lane), method, form)

        hedge = backend.hedge
        assert hedge is not None  # noqa: S101 (the caller has looked)
        return await first_answer(self._attempt(passage, step, method, form), second, hedge.after_s)

    def _send(self, passage: Passage, step: Step, rpc: Any, method: Method, timeout_s: float) -> Any:
        """Fills in what the model needs, sends, and has a copy sent if one is due; returns the call."""
        envelope, route, target = passage.envelope, step.route, step.target
        envelope.request_id = passage.request_id
        envelope.model_config.CopyFrom(target.model_config)
        payload = passage.payload + passage.request.SerializeToString()
        shadowed = passage.draw_shadow(route)
        passage.attempts += 1
        call = rpc(
            payload,
            timeout=timeout_s,
            metadata=(*target.to_model, (headers.REQUEST_ID, passage.request_id)),
        )
        if shadowed:
            self._copies.send(method, payload, routing_key=passage.shadow, request_id=passage.request_id)
        return call

    async def _send_again_or_fail(
        self, passage: Passage, step: Step, error: grpc.aio.AioRpcError, *, begun: bool = False
    ) -> None:
        """Returns if the request is to be sent again, after a pause if there is to be one; else the request ends.

        That is by its key's policy, by a new decision that may mend it, once, or to the next version. If the caller has
        a part of the answer already (``begun``), there is no way back.
        """
        route, target, backend = step.route, step.target, step.backend
        use_case = passage.envelope.use_case
        code, details = explained(error, use_case=use_case, routing_key=target.key, timeout_s=route.timeout_s)
        if begun:
            raise FailedError(code, details) from None
        passage.end_repeat()
        if code is grpc.StatusCode.FAILED_PRECONDITION and not passage.torn:
            passage.tear()
        elif (pause_s := backend.pause_before_retry(code, passage.attempts_here, passage.timeout_s(route))) is not None:
            passage.begins_repeat(backend, step.lane)
            await asyncio.sleep(pause_s)
        else:
            passage.fall_back(route, target, code, details)


def _claim(passage: Passage) -> str:
    """The caller that the connection has proved, if it has one, in whose name alone the request may be.

    Raises:
        FailedError: it says that it is another's.
    """
    proved = proved_caller(passage.context)
    if proved:
        envelope = passage.envelope
        claimed = envelope.context.caller
        if claimed not in ("", proved):
            raise FailedError(
                grpc.StatusCode.PERMISSION_DENIED,
                f"use case {shown(envelope.use_case)}: you are {proved}, and may not ask as caller {shown(claimed)}",
            )
        envelope.context.caller = proved
    return proved
