"""What every topology shares: fill the envelope, send, and say in one way how it went."""

from __future__ import annotations

import itertools
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import grpc
import grpc.aio

from lab.client import headers
from lab.client.attempts import Passage, Told
from lab.errors import CallError, ResolverUnreachableError
from models.apis import API_BY_REQUEST
from models.context import write_context

if TYPE_CHECKING:
    from lab.client.decisions import Decision
    from lab.client.endpoints import Endpoints
    from lab.client.rpc_channel import Metadata, Wire
    from lab.transport import Security
    from models.apis import Api, InferenceRequest, Method
    from models.proto.serving.v1 import serving_pb2

DefaultAnswer = Callable[[str, Any, Mapping[str, str]], Any]
BeforeSend = Callable[[Passage], Awaitable[None]]

_READY_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        response: protobuf answer of the API that was asked.
        source: ``model``; ``fallback`` if the version chosen first failed and another one answered; ``default`` if this
            is the caller's own default answer.
        routing_key: of the version that answered; empty for a default answer.
        revision: of the decision; 0 for a default answer, and where the address is hard-coded.
        attempts: how often the request was sent to a model: 1, and one more for each failure and for a tear; 0 if
            nobody could say where to.
        request_id: the id that travelled with the request.
        shadow: routing key of the shadow that a copy was asked for; empty if none.
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
        default_answer: ``(use_case, request, context) -> response`` for when nobody can say where to send, or all
            versions of a chain of fallbacks have failed.
        security: credentials; this process's own by default.
        before_send: awaited between decision and sending, each time; may do anything, and change what is sent. It is
            there to provoke what is rare, such as a tear.

    Attributes:
        topology: its name in the catalogue.
        decides: whether routing key and model config are put into a request on this side.
    """

    topology: ClassVar[str]
    decides: ClassVar[bool] = True

    def __init__(
        self,
        caller: str,
        endpoints: Endpoints,
        *,
        default_answer: DefaultAnswer | None = None,
        security: Security | None = None,
        before_send: BeforeSend | None = None,
    ) -> None:
        self._caller = caller
        self._endpoints = endpoints
        self._default_answer = default_answer
        self._security = security
        self._before_send = before_send
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
        passage = Passage(use_case, request_id or self.new_request_id())
        while True:
            if passage.undecided:
                try:
                    passage.decided(*await self._choose(passage, context))
                except ResolverUnreachableError:
                    if self._default_answer is None or passage.attempts:
                        raise
                    return self._answer_by_default(request, context, passage)
            if self._before_send is not None:
                await self._before_send(passage)
            payload, more = self._fill(request, context, passage)
            metadata = (*passage.send(), *passage.target.more, *more)
            rpc = passage.wire.unary(method)(payload, timeout=passage.remaining_s(), metadata=metadata)
            self._sent(passage, method, payload)
            try:
                response = await rpc
            except grpc.aio.AioRpcError as error:
                if self._sends_again(passage, context, error):
                    continue
                if self._default_answer is not None and passage.ends_in_default(error):
                    return self._answer_by_default(request, context, passage)
                raise passage.failure(error) from None
            else:
                return _answer(response, await passage.told_by(rpc, rpc.trailing_metadata), passage)

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
        passage = Passage(use_case, request_id or self.new_request_id())
        items = 0
        while True:
            if passage.undecided:
                passage.decided(*await self._choose(passage, context))
            if self._before_send is not None:
                await self._before_send(passage)
            payload, more = self._fill(request, context, passage)
            metadata = (*passage.send(), *more)
            rpc = passage.wire.stream(api.stream)(payload, timeout=passage.remaining_s(), metadata=metadata)
            self._sent(passage, api.stream, payload)
            told = passage.told(None)
            try:
                async for response in rpc:
                    if not items:
                        told = await passage.told_by(rpc, rpc.initial_metadata)
                    items += 1
                    yield _answer(response, told, passage)
            except grpc.aio.AioRpcError as error:
                if items or not self._sends_again(passage, context, error):
                    raise passage.failure(error) from None
            else:
                return
            finally:
                rpc.cancel()

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
    async def _choose(self, passage: Passage, context: Mapping[str, str]) -> tuple[Wire, Decision]:
        """Where to send, or a :class:`CallError`."""

    def _end_after_tear(self, use_case: str, context: Mapping[str, str], error: grpc.aio.AioRpcError) -> bool:
        """Whether this was a tear that a new decision may mend; if so, the old one is not used again."""
        del use_case, context, error
        return False

    def _sent(self, passage: Passage, method: Method, payload: bytes) -> None:
        """A request is on its way; whatever is to go beside it goes now."""
        del passage, method, payload

    def _sends_again(self, passage: Passage, context: Mapping[str, str], error: grpc.aio.AioRpcError) -> bool:
        """Whether a failed request is to be sent once more: by a new decision after a tear, or to the next version."""
        passage.failed(error)
        if not passage.torn and self._end_after_tear(passage.use_case, context, error):
            passage.tear()
            return True
        return passage.fall_back(error)

    def _fill(self, request: InferenceRequest, context: Mapping[str, str], passage: Passage) -> tuple[bytes, Metadata]:
        """The payload, and headers that belong to it."""
        self._fill_envelope(request, context, passage)
        return request.SerializeToString(), ()

    def _fill_envelope(
        self, request: InferenceRequest, context: Mapping[str, str], passage: Passage
    ) -> serving_pb2.Envelope:
        envelope = request.envelope
        envelope.request_id = passage.request_id
        envelope.use_case = passage.use_case
        try:
            write_context(envelope.context, context)
        except (TypeError, ValueError) as error:
            raise CallError(grpc.StatusCode.INVALID_ARGUMENT, f"{passage.use_case}: {error}") from None
        envelope.context.caller = self._caller
        model_config = passage.target.model_config
        if model_config is None:
            envelope.ClearField("model_config")
        else:
            envelope.model_config.CopyFrom(model_config)
        return envelope

    def _answer_by_default(self, request: InferenceRequest, context: Mapping[str, str], passage: Passage) -> Answer:
        assert self._default_answer is not None  # noqa: S101 (the caller has looked)
        response = self._default_answer(passage.use_case, request, context)
        return _answer(response, Told(headers.DEFAULT, "", 0, passage.attempts, passage.shadow), passage)


def _answer(response: Any, told: Told, passage: Passage) -> Answer:
    return Answer(
        response, told.source, told.routing_key, told.revision, told.attempts, passage.request_id, told.shadow
    )


def _api_of(request: InferenceRequest) -> Api:
    try:
        return API_BY_REQUEST[type(request)]
    except KeyError:
        known = ", ".join(sorted(each.__name__ for each in API_BY_REQUEST))
        message = f"{type(request).__name__} belongs to no inference API; these do: {known}"
        raise CallError(grpc.StatusCode.INVALID_ARGUMENT, message) from None
