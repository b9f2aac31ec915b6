"""The inference APIs: the path that every request takes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import grpc
import grpc.aio

from lab.routing.keys import HEADER
from models.proto.fraud.v1 import fraud_pb2, fraud_pb2_grpc
from models.proto.ranking.v1 import ranking_pb2, ranking_pb2_grpc
from models.scoring import scores
from models.stub.admission import Held, Refused, select

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from models.apis import InferenceRequest
    from models.stub.behaviour import Dials
    from models.stub.versions import Versions

    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
    Request = TypeVar("Request", bound=InferenceRequest)

Response = TypeVar("Response")


class Desk:
    """Admits requests, counts them, and lets them take their time.

    Args:
        versions: what can be answered.
        dials: how.
        replica: name of this replica, for messages.

    Attributes:
        in_flight: requests admitted and not yet answered.
        arrivals: requests that have ever arrived.
    """

    def __init__(self, versions: Versions, dials: Dials, replica: str) -> None:
        self.in_flight = 0
        self.arrivals = 0
        self._versions = versions
        self._dials = dials
        self._replica = replica

    def admit(self, request: InferenceRequest, context: Context) -> Held:
        """The version that answers; whoever calls this counts ``in_flight`` down again.

        Raises:
            Refused: the request is not answered, and not counted as in flight.
        """
        self.arrivals += 1
        config = request.envelope.model_config
        keys = [value for name, value in context.invocation_metadata() or () if name == HEADER]
        held = select(config.model, config.version, keys, self._versions.held, self._replica)  # type: ignore[arg-type] # bytes only in "-bin" headers
        limit = self._dials.behaviour.concurrency_limit
        if limit and self.in_flight >= limit:
            raise Refused(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{held.routing_key}: replica {self._replica} serves {limit} requests at once, its concurrency_limit; "
                f"try again later",
            )
        self.in_flight += 1
        return held

    def service_s(self) -> float:
        """Service time of the request just admitted, seconds."""
        return self._dials.draws.service_ms(self.in_flight - 1) / 1_000

    def maybe_fail(self, held: Held) -> None:
        """Raises Refused for the share of requests that are to fail."""
        if self._dials.draws.fails():
            raise Refused(
                grpc.StatusCode.INTERNAL,
                f"{held.routing_key}: replica {self._replica} fails this request, as its error_rate says",
            )

    async def answer(
        self, request: Request, context: Context, compute: Callable[[Request, Held], Response]
    ) -> Response:
        """One request, one response, after its service time."""
        try:
            held = self.admit(request, context)
            try:
                if (service_s := self.service_s()) > 0:
                    await asyncio.sleep(service_s)
                self.maybe_fail(held)
                return compute(request, held)
            finally:
                self.in_flight -= 1
        except Refused as refused:
            await context.abort(refused.code, refused.message)


def _ranked(request: ranking_pb2.RankRequest, held: Held) -> list[tuple[float, str]]:
    """Score and id of each title, best first."""
    ids = [title.id for title in request.titles]
    user_id = request.envelope.context.user_id
    return sorted(zip(scores(held.model, held.version, user_id, ids), ids, strict=True), reverse=True)


def _rank(request: ranking_pb2.RankRequest, held: Held) -> ranking_pb2.RankResponse:
    response = ranking_pb2.RankResponse(answered_by=held.answered_by)
    add = response.titles.add
    for score, title_id in _ranked(request, held):
        add(id=title_id, score=score)
    return response


def _score(request: fraud_pb2.ScoreRequest, held: Held) -> fraud_pb2.ScoreResponse:
    payment_id = request.payment.id
    (score,) = scores(held.model, held.version, request.envelope.context.user_id, (payment_id,))
    return fraud_pb2.ScoreResponse(answered_by=held.answered_by, payment_id=payment_id, score=score)


class Ranking(ranking_pb2_grpc.RankingServicer):
    """``ranking.v1``."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def Rank(  # noqa: N802 (the protocol's name)
        self, request: ranking_pb2.RankRequest, context: Context
    ) -> ranking_pb2.RankResponse:
        """All titles, best first."""
        return await self._desk.answer(request, context, _rank)

    async def RankStream(  # noqa: N802 (the protocol's name)
        self, request: ranking_pb2.RankRequest, context: Context
    ) -> AsyncIterator[ranking_pb2.RankStreamResponse]:
        """One message a title, best first; the service time is spread evenly over them."""
        desk = self._desk
        try:
            held = desk.admit(request, context)
            try:
                ranked = _ranked(request, held)
                each_s = desk.service_s() / max(len(ranked), 1)
                desk.maybe_fail(held)
                for score, title_id in ranked:
                    if each_s > 0:
                        await asyncio.sleep(each_s)
                    title = ranking_pb2.RankedTitle(id=title_id, score=score)
                    yield ranking_pb2.RankStreamResponse(answered_by=held.answered_by, title=title)
            finally:
                desk.in_flight -= 1
        except Refused as refused:
            await context.abort(refused.code, refused.message)


class Fraud(fraud_pb2_grpc.FraudServicer):
    """``fraud.v1``."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def Score(  # noqa: N802 (the protocol's name)
        self, request: fraud_pb2.ScoreRequest, context: Context
    ) -> fraud_pb2.ScoreResponse:
        """Risk of one payment."""
        return await self._desk.answer(request, context, _score)
