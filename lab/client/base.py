"""What every topology shares: fill the envelope, send, and say in one way how it went."""

from __future__ import annotations

import itertools
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import grpc
import grpc.aio

from lab.client import headers
from lab.client.status import call_error
from lab.errors import CallError, ResolverUnreachableError
from lab.routing.keys import HEADER
from models.apis import API_BY_REQUEST
from models.context import write_context

if TYPE_CHECKING:
    from lab.client.decisions import Decision
    from lab.client.endpoints import Endpoints
    from lab.client.wire import Wire
    from lab.transport import Security
    from models.apis import Api, InferenceRequest

DefaultAnswer = Callable[[str, Any, Mapping[str, str]], Any]

_READY_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        response: protobuf answer of the API that was asked.
        source: ``model``, or ``default`` if this is the caller's own default answer.
        routing_key: of the decision; empty for a default answer.
        revision: of the decision; 0 for a default answer, and where the address is hard-coded.
        attempts: how often the request was sent to a model: 1, 2 after a tear, 0 for a default answer.
        request_id: the id that travelled with the request.
        shadow: routing key of the shadow that the request was marked for; empty if none.
    """

    response: Any
    source: str
    routing_key: str
    revision: int
    attempts: int
    request_id: str
    shadow: str = ""


class Client(ABC):
    """Calls models by the name of a use case. Made by :func:`lab.client.open_client`, inside a running event loop.

    Args:
        caller: in whose name requests are sent.
        endpoints: the addresses that the topology needs.
        default_answer: ``(use_case, request, context) -> response`` for when nobody can say where to send.
        security: credentials; this process's own by default.

    Attributes:
        topology: its name in the catalogue.
    """

    topology: ClassVar[str]

    def __init__(
        self,
        caller: str,
        endpoints: Endpoints,
        *,
        default_answer: DefaultAnswer | None = None,
        security: Security | None = None,
    ) -> None:
        self._caller = caller
        self._endpoints = endpoints
        self._default_answer = default_answer
        self._security = security
        self._id_prefix = secrets.token_hex(6)
        self._id_numbers = itertools.count(1)

    async def call(
        self, use_case: str, request: InferenceRequest, context: Mapping[str, str], *, request_id: str = ""
    ) -> Answer:
        """Asks a model, and waits for its answer.

        Args:
            use_case: what for, e.g. ``ContinueWatchingRanking``.
            request: of the use case's API. Its envelope is overwritten; it may be shared by calls under way.
            context: fields of the request context that are known; the client sets ``caller`` itself.
            request_id: travels with the request; made up if empty.

        Raises:
            CallError: with a status that means the same in every topology.
        """
        method = _api_of(request).unary
        request_id = request_id or self.new_request_id()
        began = time.monotonic()
        attempts = 0
        while True:
            try:
                wire, decision = await self._choose(use_case, context)
            except ResolverUnreachableError:
                if self._default_answer is None or attempts:
                    raise
                return self._answer_by_default(use_case, request, context, request_id)
            payload = self._fill(request, use_case, context, decision, request_id)
            attempts += 1
            timeout_s = decision.timeout_s if attempts == 1 else _remaining(decision.timeout_s, began)
            rpc = wire.unary(method)(
                payload, timeout=timeout_s, metadata=(*decision.metadata, (headers.REQUEST_ID, request_id))
            )
            try:
                response = await rpc
            except grpc.aio.AioRpcError as error:
                if attempts == 1 and self._end_after_tear(use_case, context, error):
                    continue
                raise _failure(error, use_case, decision, attempts) from None
            if decision.routing_key:
                return Answer(response, "model", decision.routing_key, decision.revision, attempts, request_id)
            told = await rpc.trailing_metadata()
            return Answer(response, "model", *_told(told), request_id)

    async def stream(
        self, use_case: str, request: InferenceRequest, context: Mapping[str, str], *, request_id: str = ""
    ) -> AsyncIterator[Answer]:
        """Asks a model that answers item by item; yields one :class:`Answer` an item. Arguments as for :meth:`call`.

        Raises:
            CallError: as :meth:`call` does; INVALID_ARGUMENT if the API has no streaming method.
        """
        api = _api_of(request)
        if api.stream is None:
            raise CallError(grpc.StatusCode.INVALID_ARGUMENT, f"{use_case}: the API {api.name} has no streaming method")
        request_id = request_id or self.new_request_id()
        began = time.monotonic()
        attempts, items = 0, 0
        while True:
            wire, decision = await self._choose(use_case, context)
            payload = self._fill(request, use_case, context, decision, request_id)
            attempts += 1
            rpc = wire.stream(api.stream)(
                payload,
                timeout=_remaining(decision.timeout_s, began),
                metadata=(*decision.metadata, (headers.REQUEST_ID, request_id)),
            )
            routing_key, revision, sent = decision.routing_key, decision.revision, attempts
            try:
                async for response in rpc:
                    if not items and not routing_key:
                        routing_key, revision, sent = _told(await rpc.initial_metadata())
                    items += 1
                    yield Answer(response, "model", routing_key, revision, sent, request_id)
            except grpc.aio.AioRpcError as error:
                if attempts == 1 and not items and self._end_after_tear(use_case, context, error):
                    continue
                raise _failure(error, use_case, decision, attempts) from None
            finally:
                rpc.cancel()
            return

    def new_request_id(self) -> str:
        """An id that no other request has, made without asking the system for randomness each time."""
        return f"{self._id_prefix}-{next(self._id_numbers):08x}"

    @abstractmethod
    async def ready(self, timeout_s: float = _READY_TIMEOUT_S) -> None:
        """Returns once requests can be sent.

        Raises:
            UnitError: what the topology needs cannot be reached in time.
        """

    @abstractmethod
    async def close(self) -> None:
        """Closes all connections."""

    @abstractmethod
    async def _choose(self, use_case: str, context: Mapping[str, str]) -> tuple[Wire, Decision]:
        """Where to send, or a :class:`CallError`."""

    def _end_after_tear(self, use_case: str, context: Mapping[str, str], error: grpc.aio.AioRpcError) -> bool:
        """Whether this was a tear that a new decision may mend; if so, the old one is not used again."""
        del use_case, context, error
        return False

    def _fill(
        self,
        request: InferenceRequest,
        use_case: str,
        context: Mapping[str, str],
        decision: Decision,
        request_id: str,
    ) -> bytes:
        envelope = request.envelope
        envelope.request_id = request_id
        envelope.use_case = use_case
        try:
            write_context(envelope.context, context)
        except (TypeError, ValueError) as error:
            raise CallError(grpc.StatusCode.INVALID_ARGUMENT, f"{use_case}: {error}") from None
        envelope.context.caller = self._caller
        if decision.model_config is None:
            envelope.ClearField("model_config")
        else:
            envelope.model_config.CopyFrom(decision.model_config)
        return request.SerializeToString()

    def _answer_by_default(
        self, use_case: str, request: InferenceRequest, context: Mapping[str, str], request_id: str
    ) -> Answer:
        assert self._default_answer is not None  # noqa: S101 (the caller has looked)
        return Answer(self._default_answer(use_case, request, context), "default", "", 0, 0, request_id)


def _api_of(request: InferenceRequest) -> Api:
    try:
        return API_BY_REQUEST[type(request)]
    except KeyError:
        known = ", ".join(sorted(each.__name__ for each in API_BY_REQUEST))
        message = f"{type(request).__name__} belongs to no inference API; these do: {known}"
        raise CallError(grpc.StatusCode.INVALID_ARGUMENT, message) from None


def _remaining(timeout_s: float, began: float) -> float:
    return max(0.0, timeout_s - (time.monotonic() - began))


def _told(metadata: Any) -> tuple[str, int, int]:
    """Routing key, revision and attempts, as a gateway told them."""
    told = dict(metadata or ())
    return told.get(HEADER, ""), int(told.get(headers.REVISION, 0)), int(told.get(headers.ATTEMPTS, 1))


def _failure(error: grpc.aio.AioRpcError, use_case: str, decision: Decision, attempts: int) -> CallError:
    routing_key, revision = decision.routing_key, decision.revision
    if not routing_key:
        routing_key, revision, attempts = _told(error.trailing_metadata())
    return call_error(
        error,
        use_case=use_case,
        routing_key=routing_key,
        revision=revision,
        timeout_s=decision.timeout_s,
        attempts=attempts,
    )
