"""A request that fails has ended, for those who count it, before its caller hears of it: that may ask again at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from lab.transport import listen, new_server, open_channel
from lab.transport.handlers import with_behaviour
from lab.transport.rpc_logs import RequestLog
from models.proto.ranking.v1 import ranking_pb2, ranking_pb2_grpc
from models.stub.behaviour import Behaviour, LiveBehaviour
from models.stub.serving import Ranking, RequestHandler
from models.stub.versions import Identity, Versions
from services.gateway.forwarder import LOG_FIELDS, Forwarder
from services.gateway.pool import Pool
from services.gateway.shadow_sender import PoolShadowSender
from services.gateway.tenant_quota import Limiter
from tests.models.replicas import rank_request

BOTH = pytest.mark.parametrize("streaming", [False, True], ids=["unary", "stream"])


class AtAbort:
    """An RPC's context. Details of a failure that it sends are what ``say`` returns just before.

    Args:
        context: the RPC's own.
        say: what is known by then.
    """

    def __init__(self, context: Any, say: Callable[[], str]) -> None:
        self._context, self._say = context, say

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def abort(self, code: grpc.StatusCode, _: str = "", trailing_metadata: Any = ()) -> None:
        """Sends the failure."""
        await self._context.abort(code, self._say(), trailing_metadata)


class SaysWhatIsLogged(grpc.GenericRpcHandler):
    """A gateway without rules. A failure says whether the request is in the access log by then."""

    def __init__(self, log: RequestLog) -> None:
        pool = Pool()
        self._log = log
        self._gateway = Forwarder(
            name="gateway", pool=pool, access_log=log, shadows=PoolShadowSender(pool), limiter=Limiter(1)
        )

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler: Any = self._gateway.service(handler_call_details)
        behaviour = handler.unary_unary or handler.unary_stream
        return with_behaviour(handler, lambda request, context: behaviour(request, AtAbort(context, self._say)))

    def _say(self) -> str:
        return f"logged: {not self._log.up_to_date}"


class SaysWhatHasEnded(Ranking):
    """A model without versions. A refusal says whether the journal has its end by then."""

    def __init__(self) -> None:
        live = LiveBehaviour(Behaviour())
        handler = RequestHandler(Versions(Identity("ml-cluster-1", "a", ""), live), live, "a")
        super().__init__(handler)
        self._journal = handler.journal

    async def Rank(self, request: ranking_pb2.RankRequest, context: Any) -> ranking_pb2.RankResponse:  # noqa: N802
        return await super().Rank(request, AtAbort(context, self._say))  # type: ignore[arg-type]

    async def RankStream(self, request: Any, context: Any) -> AsyncIterator[ranking_pb2.RankStreamResponse]:  # noqa: N802
        async for item in super().RankStream(request, AtAbort(context, self._say)):  # type: ignore[arg-type]
            yield item

    def _say(self) -> str:
        [(_, ended_ns, status)] = self._journal.since(0)
        return f"{status}, ended: {ended_ns > 0}"


async def failure_of(server: grpc.aio.Server, *, streaming: bool) -> tuple[grpc.StatusCode, str | None]:
    """Status and details with which a server fails a request."""
    port = listen(server, "127.0.0.1:0")
    await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        ranking: Any = ranking_pb2_grpc.RankingStub(channel)
        request = rank_request("rows", "v1")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (ranking.RankStream(request).read() if streaming else ranking.Rank(request))
    await server.stop(0)
    return caught.value.code(), caught.value.details()


@BOTH
async def test_a_failed_request_is_in_the_gateways_log_before_its_caller_hears_of_it(
    tmp_path: Path, *, streaming: bool
) -> None:
    log = RequestLog(tmp_path / "access.jsonl", LOG_FIELDS)
    server, _ = new_server(handlers=[SaysWhatIsLogged(log)])
    assert await failure_of(server, streaming=streaming) == (grpc.StatusCode.UNAVAILABLE, "logged: True")
    log.close()


@BOTH
async def test_a_refused_request_has_ended_at_the_model_before_its_caller_hears_of_it(*, streaming: bool) -> None:
    server, _ = new_server()
    ranking_pb2_grpc.add_RankingServicer_to_server(SaysWhatHasEnded(), server)
    assert await failure_of(server, streaming=streaming) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE, ended: True")
