"""The client: fills the envelope, sends, retries by the attempts' state machine, and reports how each request went."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc
import grpc.aio

from lab.client.rpc_channel import RpcChannel, explained
from lab.client.shadow_sender import ShadowSender
from lab.client.strategies import GATEWAY_GRACE_S, Strategy
from lab.errors import CallError, ResolverUnreachableError
from lab.plain_text import require_header_value
from lab.routing import headers
from lab.routing.attempts import AnswerMetadata, RequestAttempts
from lab.routing.keys import SHADOW_HEADER
from lab.transport import answer_of, items_of
from lab.transport.tracing import RequestSpan, request_span
from models.apis import API_BY_REQUEST, Api, InferenceRequest, Method
from models.context import write_context

DefaultAnswer = Callable[[str, Any, Mapping[str, str]], Any]
BeforeSend = Callable[[RequestAttempts], Awaitable[None]]

_READY_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, and how it came about.

    Attributes:
        response: protobuf response of the API that was asked.
        source: ``model``; ``fallback`` if the version chosen first failed and another one answered; ``default`` if this
            is the caller's own default answer.
        routing_key: of the version that answered; empty for a default answer.
        revision: of the decision; 0 for a default answer, and where the address is hard-coded.
        attempts: how often the request was sent to a model; 0 if there was no decision to follow.
        request_id: the id that travelled with the request.
        shadow: routing key of the shadow that was sent a copy; empty if none was.
    """

    response: Any
    source: str
    routing_key: str
    revision: int
    attempts: int
    request_id: str
    shadow: str = ""


class _Failure(NamedTuple):
    """How a request failed, and the source that a gateway has reported."""

    error: CallError
    source: str


class Client:
    """Calls models by the name of a use case. Made by :func:`lab.topologies.open_client`, inside a running event loop.

    Args:
        topology: its name.
        caller: name of the service that sends the requests.
        strategy: what the topology does on the caller's side.
        default_answer: ``(use_case, request, context) -> response``, used if no resolver gives a decision, or if every
            version of a fallback chain has failed.
        before_send: awaited between decision and sending, at each attempt; may change ``attempts.target``. Tests use
            it to provoke rare events, such as a tear.
        ids_of: unit in whose name it makes ids of requests.
    """

    def __init__(
        self,
        topology: str,
        caller: str,
        strategy: Strategy,
        *,
        default_answer: DefaultAnswer | None = None,
        before_send: BeforeSend | None = None,
        ids_of: str = "",
    ) -> None:
        self.topology, self.strategy = topology, strategy
        self._caller = caller
        self._default_answer = default_answer
        self._before_send = before_send
        self._shadows = ShadowSender()
        # Use case → seconds after which a call ends here, as a frozen gateway ends none; empty where no gateway reports
        # timeouts.
        self._patience_s: dict[str, float] = {}
        self._id_prefix = ".".join(filter(None, (ids_of, secrets.token_hex(6))))
        self._id_numbers = itertools.count(1)

    async def call(
        self,
        use_case: str,
        request: InferenceRequest,
        context: Mapping[str, str],
        *,
        request_id: str = "",
        within_s: float | None = None,
        retries_left: int | None = None,
    ) -> Answer:
        """Asks a model, and waits for its answer.

        Args:
            use_case: its name, e.g. ``ContinueWatchingRanking``.
            request: of the use case's API. Its envelope is overwritten; calls in flight may share it.
            context: known fields of the request context; the client sets ``caller`` itself.
            request_id: travels with the request; generated if empty.
            within_s: time until the caller's own deadline, seconds; None if it has none.
            retries_left: most retries and hedges that may follow the first attempt at a version, all together; None for
                as many as the route table allows.

        Raises:
            CallError: with a status that means the same in every topology.
        """
        method = _api_of(request).unary
        attempts = self._begin(use_case, request_id, within_s, retries_left)
        with request_span(use_case, attempts.request_id) as span, span.current():
            try:
                answer = await self._ask(attempts, method, request, context)
            except CallError as error:
                _describe_failure(span, error)
                raise
            span.describe(routing_key=answer.routing_key, revision=answer.revision)
            return answer

    async def _ask(
        self, attempts: RequestAttempts, method: Method, request: InferenceRequest, context: Mapping[str, str]
    ) -> Answer:
        channel: RpcChannel | None = None
        while True:
            try:
                channel, rpc = await self._begin_attempt(attempts, channel, method, request, context)
            except ResolverUnreachableError:
                if self._default_answer is None or attempts.made:
                    raise
                return self._answer_by_default(self._default_answer, request, context, attempts)
            try:
                response = await answer_of(rpc, attempts.remaining_s(time.monotonic()))
            except grpc.aio.AioRpcError as error:
                if (failure := self._final(attempts, error)) is None:
                    continue
                if failure.source == headers.DEFAULT and self._default_answer is not None:
                    return self._answer_by_default(self._default_answer, request, context, attempts)
                raise failure.error from None
            else:
                metadata = await _answer_metadata(attempts, rpc, rpc.trailing_metadata)
                self._learn(attempts, metadata)
                return _answer(response, metadata, attempts)

    async def stream(
        self, use_case: str, request: InferenceRequest, context: Mapping[str, str], *, request_id: str = ""
    ) -> AsyncIterator[Answer]:
        """Asks a model that answers item by item; yields one :class:`Answer` an item. Arguments as for :meth:`call`.

        Another version is tried only before the first item, and there is no default answer.

        Raises:
            CallError: as :meth:`call` does; INVALID_ARGUMENT if the API has no streaming method.
        """
        api = _api_of(request)
        if api.stream is None:
            raise CallError(grpc.StatusCode.INVALID_ARGUMENT, f"{use_case}: the API {api.name} has no streaming method")
        attempts = self._begin(use_case, request_id)
        with request_span(use_case, attempts.request_id) as span:
            channel: RpcChannel | None = None
            metadata: AnswerMetadata | None = None
            while True:
                with span.current():
                    channel, rpc = await self._begin_attempt(attempts, channel, api.stream, request, context)
                try:
                    async for response in items_of(rpc, attempts.remaining_s(time.monotonic())):
                        if metadata is None:
                            metadata = await _answer_metadata(attempts, rpc, rpc.initial_metadata)
                            self._learn(attempts, metadata)
                            span.describe(routing_key=metadata.routing_key, revision=metadata.revision)
                        yield _answer(response, metadata, attempts)
                except grpc.aio.AioRpcError as error:
                    if failure := self._final(attempts, error, began=metadata):
                        _describe_failure(span, failure.error)
                        raise failure.error from None
                else:
                    return
                finally:
                    rpc.cancel()

    async def _begin_attempt(
        self,
        attempts: RequestAttempts,
        channel: RpcChannel | None,
        method: Method,
        request: InferenceRequest,
        context: Mapping[str, str],
    ) -> tuple[RpcChannel, Any]:
        """Decides where the request goes, if that is open, and sends it; returns the channel and the RPC.

        ``channel`` is that of the attempt before, None at the first.
        """
        if channel is None or attempts.undecided:
            channel, decision = await self.strategy.decide(attempts, context)
            attempts.decided(decision)
        if self._before_send is not None:
            await self._before_send(attempts)
        return channel, self._send(attempts, channel, method, request, context)

    def _final(
        self, attempts: RequestAttempts, error: grpc.aio.AioRpcError, *, began: AnswerMetadata | None = None
    ) -> _Failure | None:
        """What the caller gets for a failed attempt; None if another one follows.

        None follows after an item of a stream has come, with the metadata ``began``.
        """
        code, details = _explained(attempts, error)
        if began is None and _moves_on(attempts, error, code):
            return None
        metadata = _failure_metadata(attempts, error, code)
        self._learn(attempts, began or metadata)
        return _Failure(_call_error(attempts, code, details, metadata), metadata.source)

    def _begin(
        self, use_case: str, request_id: str, within_s: float | None = None, retries_left: int | None = None
    ) -> RequestAttempts:
        patience_s = self._patience_s.get(use_case)
        if within_s is not None:
            patience_s = within_s if patience_s is None else min(patience_s, within_s)
        now = time.monotonic()
        return RequestAttempts(use_case, self._checked(request_id), now, patience_s, retries_left)

    def _learn(self, attempts: RequestAttempts, metadata: AnswerMetadata) -> None:
        """Ends later calls of the use case soon after the timeout that a gateway reports."""
        if metadata.timeout_s:
            self._patience_s[attempts.use_case] = metadata.timeout_s + GATEWAY_GRACE_S

    def _checked(self, request_id: str) -> str:
        """The caller's own id, or a new one if that is empty."""
        try:
            require_header_value("request_id", request_id)
        except ValueError as error:
            raise CallError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None
        return request_id or self.new_request_id()

    def new_request_id(self) -> str:
        """A unique request id: this client's random prefix, and a counter."""
        return f"{self._id_prefix}-{next(self._id_numbers):08x}"

    async def ready(self, timeout_s: float = _READY_TIMEOUT_S) -> None:
        """Returns once requests can be sent.

        Raises:
            UnitError: a unit that the topology needs cannot be reached in time.
        """
        await self.strategy.ready(timeout_s)

    @property
    def copies_dropped(self) -> int:
        """Number of shadow copies that this side did not send, as too many were in flight."""
        return self._shadows.dropped_at_bound

    async def close(self) -> None:
        """Closes all connections; shadow copies in flight may still arrive."""
        await self._shadows.settle()
        await self.strategy.close()

    def _send(
        self,
        attempts: RequestAttempts,
        channel: RpcChannel,
        method: Method,
        request: InferenceRequest,
        context: Mapping[str, str],
    ) -> Any:
        """Begins an attempt, and sends the shadow's copy if this side makes it; returns the RPC."""
        self._fill_envelope(attempts, request, context)
        payload, more = self.strategy.encode(request, context)
        target, timeout_s = attempts.target, attempts.remaining_s(time.monotonic())
        metadata = target.headers if method.streaming else target.headers + target.unary_headers
        metadata += attempts.retry_headers
        shadowed, mirrored = attempts.begin(), attempts.decision.mirrored_by_proxy
        if shadowed and mirrored:
            metadata += ((SHADOW_HEADER, attempts.shadow),)
        call = channel.rpc(method)(
            payload, timeout=timeout_s, metadata=(*metadata, (headers.REQUEST_ID, attempts.request_id), *more)
        )
        if shadowed and not mirrored:
            self._shadows.send(channel, method, payload, routing_key=attempts.shadow, request_id=attempts.request_id)
        return call

    def _fill_envelope(self, attempts: RequestAttempts, request: InferenceRequest, context: Mapping[str, str]) -> None:
        envelope = request.envelope
        envelope.request_id = attempts.request_id
        envelope.use_case = attempts.use_case
        try:
            write_context(envelope.context, context)
        except (TypeError, ValueError) as error:
            raise CallError(grpc.StatusCode.INVALID_ARGUMENT, f"{attempts.use_case}: {error}") from None
        envelope.context.caller = self._caller
        attempts.target.fill(envelope)

    def _answer_by_default(
        self,
        default_answer: DefaultAnswer,
        request: InferenceRequest,
        context: Mapping[str, str],
        attempts: RequestAttempts,
    ) -> Answer:
        response = default_answer(attempts.use_case, request, context)
        return _answer(response, AnswerMetadata(headers.DEFAULT, "", 0, attempts.made, attempts.shadow), attempts)


async def _answer_metadata(
    attempts: RequestAttempts, rpc: Any, from_gateway: Callable[[], Awaitable[Any]]
) -> AnswerMetadata:
    """How an answered request went: from the gateway's headers if a gateway decided, else from ``attempts``."""
    if not attempts.target.routing_key:
        return AnswerMetadata.of_headers(await from_gateway())
    if attempts.decision.repeated_by_proxy:
        attempts.repeated(_envoy_retries(await rpc.initial_metadata()))
    return attempts.answer_metadata()


def _failure_metadata(attempts: RequestAttempts, error: grpc.aio.AioRpcError, code: grpc.StatusCode) -> AnswerMetadata:
    if not attempts.target.routing_key:
        return AnswerMetadata.of_headers(_reported(error))
    return attempts.answer_metadata(code.name)


def _moves_on(attempts: RequestAttempts, error: grpc.aio.AioRpcError, code: grpc.StatusCode) -> bool:
    """Counts Envoy's attempts and moves on to the next one; returns False if none follows."""
    if attempts.decision.repeated_by_proxy:
        attempts.repeated(_envoy_retries(_reported(error)))
    return attempts.failed(code.name, time.monotonic()) is not None


def _reported(error: grpc.aio.AioRpcError) -> tuple[Any, ...]:
    """All headers beside an error; of those that came twice, the last is the latest."""
    return (*(error.initial_metadata() or ()), *(error.trailing_metadata() or ()))


def _envoy_retries(metadata: Any) -> int:
    """Number of retries and hedges that an Envoy on the path reports."""
    return sum(int(value) - 1 for name, value in metadata or () if name == headers.ENVOY_ATTEMPTS)


def _explained(attempts: RequestAttempts, error: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, str]:
    return explained(
        error,
        use_case=attempts.use_case,
        # A gateway that has decided names the key in its message already.
        routing_key=attempts.target.routing_key or AnswerMetadata.of_headers(_reported(error)).routing_key,
        timeout_s=attempts.timeout_s,
    )


def _call_error(attempts: RequestAttempts, code: grpc.StatusCode, details: str, metadata: AnswerMetadata) -> CallError:
    return CallError(
        code,
        details + attempts.failures,
        routing_key=metadata.routing_key,
        revision=metadata.revision,
        attempts=metadata.attempts,
        shadow=metadata.shadow,
    )


def _describe_failure(span: RequestSpan, error: CallError) -> None:
    span.describe(routing_key=error.routing_key, revision=error.revision, failure=error.code.name)


def _answer(response: Any, metadata: AnswerMetadata, attempts: RequestAttempts) -> Answer:
    return Answer(
        response,
        metadata.source,
        metadata.routing_key,
        metadata.revision,
        metadata.attempts,
        attempts.request_id,
        metadata.shadow,
    )


def _api_of(request: InferenceRequest) -> Api:
    try:
        return API_BY_REQUEST[type(request)]
    except KeyError:
        known = ", ".join(sorted(each.__name__ for each in API_BY_REQUEST))
        message = f"{type(request).__name__} belongs to no inference API; these do: {known}"
        raise CallError(grpc.StatusCode.INVALID_ARGUMENT, message) from None
