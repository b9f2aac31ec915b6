"""The inference APIs of a replica, and the path of every request through it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, TypeVar

import grpc
import grpc.aio

from lab.plain_text import printable
from lab.routing.headers import PROVED_CALLER, VIA
from lab.routing.keys import COPY, COPY_HEADER, HEADER, TENANT_HEADER, routing_key, tenant_in_header
from lab.routing.rules import shown
from lab.transport import is_operator, peer_identity
from models.apis import API_BY_REQUEST, InferenceRequest, items_digest
from models.context import read_envelope
from models.proto.fraud.v1 import fraud_pb2, fraud_pb2_grpc
from models.proto.ranking.v1 import ranking_pb2, ranking_pb2_grpc
from models.proto.serving.v1 import serving_pb2
from models.scoring import scores
from models.stub.admission import AdmissionQueue, LoadedVersion, NotLoaded, Refused, Torn, select
from models.stub.journal import ArrivalJournal
from models.stub.receipts import Receipts

if TYPE_CHECKING:
    from models.stub.behaviour import LiveBehaviour
    from models.stub.versions import Versions

    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
    Request = TypeVar("Request", bound=InferenceRequest)

_KEPT = 200  # characters of a header that may be anything
_SHOWN = 60  # characters of a name that may be anything

Response = TypeVar("Response")


class Received(NamedTuple):
    """A request as it arrived.

    Attributes:
        number: in the journal.
        keys: routing keys in its headers.
        tenant: in its header; None without one.
        proved: the caller that an Envoy of all callers has authenticated; empty without one.
        receipt: see :mod:`models.stub.receipts`.
        objection: what is wrong with its context, empty if nothing is.
        via: the units that it has passed.
    """

    number: int
    keys: list[str]
    is_copy: bool
    tenant: str | None
    receipt: bytes
    objection: str
    proved: str = ""
    via: str = ""


class Admitted(NamedTuple):
    """An admitted request; call ``queue.leave(tenant)`` when it is done."""

    loaded: LoadedVersion
    queue: AdmissionQueue
    tenant: str
    receipt: bytes

    def service_s(self) -> float:
        """Service time of the request just admitted, seconds."""
        return self.queue.draws.service_ms(self.queue.in_flight - 1) / 1_000


class RequestHandler:
    """Admits requests, counts them, and serves them after their service time.

    Attributes:
        arrivals: requests received, without shadow copies.
        admitted: how many were admitted, by model, version and whether they are a copy.
        tears: how many of those named different versions in header and body.
        copies: shadow copies received.
        journal: all of them.
    """

    def __init__(
        self,
        versions: Versions,
        live: LiveBehaviour,
        replica: str,
        receipts: Receipts | None = None,
        journal: ArrivalJournal | None = None,
    ) -> None:
        self.arrivals = self.tears = self.copies = 0
        self.admitted: Counter[tuple[str, str, bool]] = Counter()
        self.journal = journal or ArrivalJournal()
        self._requests, self._shadows = AdmissionQueue(live.draws), AdmissionQueue(live.copy_draws)
        self._versions = versions
        self._live = live
        self._replica = replica
        self._receipts = receipts or Receipts()

    def of(self, context: Context) -> RequestHandler:
        """This handler, for every request."""
        del context
        return self

    @property
    def in_flight(self) -> int:
        """Requests admitted and not yet answered, shadow copies not counted."""
        return self._requests.in_flight

    def receive(self, request: InferenceRequest, context: Context) -> Received:
        """Registers a request; serve it within :meth:`ending`."""
        keys, is_copy, tenant, proved = [], False, None, ""
        via: list[str] = []
        headers = context.invocation_metadata() or ()
        for name, value in headers:
            if name == HEADER:
                keys.append(str(value))
            elif name == COPY_HEADER:
                is_copy = value == COPY
            elif name == TENANT_HEADER:
                tenant = str(value)
            elif name == VIA:
                via.append(str(value))
            elif name == PROVED_CALLER:
                proved = str(value)
        self.arrivals += not is_copy
        envelope = request.envelope
        receipt, objection = b"", ""
        try:
            read_envelope(envelope)
            receipt = self._receipts.of(request)
        except ValueError as error:
            objection = str(error)
        config = envelope.model_config
        key = keys[0] if keys else routing_key(config.model, config.version)
        passed = ", ".join(via)[:_KEPT]
        number = self.journal.begin(
            *(envelope.request_id, key, envelope.context.tenant, receipt, is_copy, passed),
            context.time_remaining(),
            headers,
        )
        return Received(number, keys, is_copy, tenant, receipt, objection, proved, passed)

    def admit(self, request: InferenceRequest, received: Received, context: Context) -> Admitted:
        """Selects the version that answers, and admits the request to its queue.

        Raises:
            Refused: the request is not answered, and not counted as in flight.
        """
        _, keys, is_copy, tenant, receipt, objection, proved, via = received
        envelope = request.envelope
        if objection:
            reason = f"{printable(envelope.use_case, _SHOWN)}: {objection} (replica {self._replica})"
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, reason)
        loaded, queue = (self._select_for_copy if is_copy else self._select)(request, keys)
        self.copies += is_copy
        loaded.require_api(API_BY_REQUEST[type(request)].name)
        identity = peer_identity(context)
        caller = identity.caller or proved if identity is not None else ""
        if caller and envelope.context.caller not in ("", caller):
            claimed = shown(envelope.context.caller)
            reason = f"{loaded.routing_key}: caller {shown(caller)} may not ask as caller {claimed}"
            raise Refused(grpc.StatusCode.PERMISSION_DENIED, reason)
        # Units that send for all callers, such as gateways, are admitted by role; a request may name no caller there.
        if identity is not None and not is_operator(identity):
            for each in {caller, envelope.context.caller} - {""}:
                loaded.require_allowed(each)
        if (suspended := self._versions.suspended) is not None:
            suspended.require_current(caller or envelope.context.caller, via, loaded.routing_key)
        if tenant is not None and tenant != tenant_in_header(envelope.context.tenant):
            raise Refused(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"{loaded.routing_key}: {TENANT_HEADER} says {shown(tenant)}, the body says "
                f"{shown(tenant_in_header(envelope.context.tenant))}; name the same tenant in both",
            )
        queue.enter(envelope, self._live.behaviour, f"{loaded.routing_key}: replica {self._replica}")
        self.admitted[loaded.model, loaded.version, is_copy] += 1
        return Admitted(loaded, queue, envelope.context.tenant, receipt)

    def _select(self, request: InferenceRequest, keys: list[str]) -> tuple[LoadedVersion, AdmissionQueue]:
        config = request.envelope.model_config
        try:
            return self._loaded(config.model, config.version, keys), self._requests
        except Torn:
            self.tears += 1
            raise

    def _select_for_copy(self, request: InferenceRequest, keys: list[str]) -> tuple[LoadedVersion, AdmissionQueue]:
        """Selects by the routing key alone: a copy's body names the version of the original request."""
        del request
        return self._loaded("", "", keys), self._shadows

    def require_loaded(self, request: InferenceRequest) -> None:
        """Raises Refused unless the version that the body names is loaded."""
        config = request.envelope.model_config
        self._loaded(config.model, config.version, [])

    def _loaded(self, model: str, version: str, keys: list[str]) -> LoadedVersion:
        try:
            return select(model, version, keys, self._versions.loaded, self._replica)
        except NotLoaded as refused:
            if not self._versions.starting:
                raise
            # Callers that knew this address before it was started again reach it too early, not in error.
            reason = f"{refused.message}; it has just started and still loads its versions: try again"
            raise Refused(grpc.StatusCode.UNAVAILABLE, reason) from None

    def slot(self, admitted: Admitted) -> AbstractAsyncContextManager[object]:
        """Hold it while the request is served; see :meth:`AdmissionQueue.slot`."""
        return admitted.queue.slot(self._live.behaviour)

    def maybe_fail(self, admitted: Admitted) -> None:
        """Raises Refused for the share of requests that must fail."""
        if admitted.queue.draws.fails():
            raise Refused(
                grpc.StatusCode.INTERNAL,
                f"{admitted.loaded.routing_key}: replica {self._replica} fails this request, as its error_rate says",
            )

    async def answer(
        self, request: Request, context: Context, compute: Callable[[Request, Admitted], Response]
    ) -> Response:
        """Answers one request with one response, after its service time."""
        received = self.receive(request, context)
        try:
            with self.ending(received):
                admitted = self.admit(request, received, context)
                try:
                    async with self.slot(admitted):
                        if (service_s := admitted.service_s()) > 0:
                            await asyncio.sleep(service_s)
                        self.maybe_fail(admitted)
                        response = compute(request, admitted)
                        if received.is_copy:
                            self.keep_answer(received, API_BY_REQUEST[type(request)].items(response))
                        return response
                finally:
                    admitted.queue.leave(admitted.tenant)
        except Refused as refused:
            await context.abort(refused.code, refused.message)

    def keep_answer(self, received: Received, items: Sequence[tuple[str, float]]) -> None:
        """Enters what a copy is answered in the journal, as nobody else reads it."""
        self.journal.answered(received.number, items_digest(items))

    @contextmanager
    def ending(self, received: Received) -> Iterator[None]:
        """Enters the request's end in the journal, before a failure is sent: its caller may ask again at once."""
        status = grpc.StatusCode.CANCELLED
        try:
            yield
            status = grpc.StatusCode.OK
        except Refused as refused:
            status = refused.code
            raise
        finally:
            self.journal.end(received.number, status)


def _ranked(request: ranking_pb2.RankRequest, loaded: LoadedVersion) -> list[tuple[float, str]]:
    """Score and id of each title, best first."""
    ids = [title.id for title in request.titles]
    user_id = request.envelope.context.user_id
    return sorted(zip(scores(loaded.model, loaded.version, user_id, ids), ids, strict=True), reverse=True)


def add_evidence(answered_by: serving_pb2.AnsweredBy, request: InferenceRequest, receipt: bytes) -> None:
    """Says in an answer what its model read in the request."""
    context = request.envelope.context
    answered_by.traffic_origin, answered_by.tenant = context.traffic_origin, context.tenant
    answered_by.received = receipt


def _rank(request: ranking_pb2.RankRequest, admitted: Admitted) -> ranking_pb2.RankResponse:
    response = ranking_pb2.RankResponse(answered_by=admitted.loaded.answered_by)
    add_evidence(response.answered_by, request, admitted.receipt)
    add = response.titles.add
    for score, title_id in _ranked(request, admitted.loaded):
        add(id=title_id, score=score)
    return response


def _score(request: fraud_pb2.ScoreRequest, admitted: Admitted) -> fraud_pb2.ScoreResponse:
    loaded, payment_id = admitted.loaded, request.payment.id
    (score,) = scores(loaded.model, loaded.version, request.envelope.context.user_id, (payment_id,))
    response = fraud_pb2.ScoreResponse(answered_by=loaded.answered_by, payment_id=payment_id, score=score)
    add_evidence(response.answered_by, request, admitted.receipt)
    return response


class RequestHandlers(Protocol):
    """A replica's handler, or those of many replicas."""

    def of(self, context: Context) -> RequestHandler:
        """The handler of the replica that a request came to."""


class Ranking(ranking_pb2_grpc.RankingServicer):
    """Serves ``ranking.v1``."""

    def __init__(self, handlers: RequestHandlers) -> None:
        self._handlers = handlers

    async def Rank(self, request: ranking_pb2.RankRequest, context: Context) -> ranking_pb2.RankResponse:
        """All titles, best first."""
        return await self._handlers.of(context).answer(request, context, _rank)

    async def RankStream(
        self, request: ranking_pb2.RankRequest, context: Context
    ) -> AsyncIterator[ranking_pb2.RankStreamResponse]:
        """One message per title, best first; the service time is spread evenly over them."""
        handler = self._handlers.of(context)
        received = handler.receive(request, context)
        try:
            with handler.ending(received):
                loaded, queue, tenant, receipt = admitted = handler.admit(request, received, context)
                answered_by = serving_pb2.AnsweredBy()
                answered_by.CopyFrom(loaded.answered_by)
                add_evidence(answered_by, request, receipt)
                try:
                    async with handler.slot(admitted):
                        ranked = _ranked(request, loaded)
                        each_s = admitted.service_s() / max(len(ranked), 1)
                        handler.maybe_fail(admitted)
                        if received.is_copy:
                            handler.keep_answer(received, [(title_id, score) for score, title_id in ranked])
                        began = time.monotonic()
                        for number, (score, title_id) in enumerate(ranked, start=1):
                            if each_s > 0:
                                # Sleeps until the due time, so that the delays of single sleeps do not add up.
                                await asyncio.sleep(began + number * each_s - time.monotonic())
                            title = ranking_pb2.RankedTitle(id=title_id, score=score)
                            yield ranking_pb2.RankStreamResponse(answered_by=answered_by, title=title)
                finally:
                    queue.leave(tenant)
        except Refused as refused:
            await context.abort(refused.code, refused.message)


class Fraud(fraud_pb2_grpc.FraudServicer):
    """Serves ``fraud.v1``."""

    def __init__(self, handlers: RequestHandlers) -> None:
        self._handlers = handlers

    async def Score(self, request: fraud_pb2.ScoreRequest, context: Context) -> fraud_pb2.ScoreResponse:
        """Risk of one payment."""
        return await self._handlers.of(context).answer(request, context, _score)
