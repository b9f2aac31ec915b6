"""Plans of runs, and what the runs call: a client without a server, and a server with a gate."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc

from lab.client import Answer, DirectTarget, Endpoints
from lab.load.arrivals import Constant
from lab.load.plan import LoadPlan, UseCase
from lab.transport import listen, new_server
from models.apis import APIS
from models.proto.ranking.v1 import ranking_pb2


def ranked(user_id: str) -> ranking_pb2.RankResponse:
    response = ranking_pb2.RankResponse(titles=[ranking_pb2.RankedTitle(id="t07", score=0.75)])
    response.answered_by.cluster = "ml-cluster-1"
    response.answered_by.model = "cw-ranker"
    response.answered_by.version = "v1"
    response.answered_by.replica = f"for-{user_id}"
    response.answered_by.revision = 3
    return response


@dataclass
class FakeClient:
    """Answers at once, unless ``behave`` does otherwise with the n-th call."""

    behave: Callable[[int], Any] | None = None
    calls: list[tuple[str, dict[str, str], str]] = field(default_factory=list)
    closed: bool = False
    copies_dropped: int = 0

    async def ready(self) -> None:
        return

    async def call(self, use_case: str, request: Any, context: Any, *, request_id: str) -> Answer:
        del request
        number = len(self.calls)
        self.calls.append((use_case, dict(context), request_id))
        if self.behave is not None:
            waited_for = self.behave(number)
            if waited_for is not None:
                await waited_for
        return Answer(ranked(context["user_id"]), "model", "cw-ranker.v1", 3, 1, request_id, shadow="cw-ranker.v3")

    async def stream(self, use_case: str, request: Any, context: Any, *, request_id: str) -> AsyncIterator[Answer]:
        for number in range(len(request.titles)):
            self.calls.append((use_case, dict(context), request_id))
            whole = ranked(context["user_id"])
            item = ranking_pb2.RankStreamResponse(answered_by=whole.answered_by, title=whole.titles[0])
            item.title.id = f"t{number:02}"
            if self.behave is not None and (waited_for := self.behave(len(self.calls) - 1)) is not None:
                await waited_for
            yield Answer(item, "model", "cw-ranker.v1", 3, 1, request_id)

    async def close(self) -> None:
        self.closed = True


@dataclass
class GatedServer:
    """A real gRPC server that answers while its gate is open."""

    address: str
    gate: asyncio.Event
    received: int = 0
    waiting_for: int = 0
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    async def rank(self, request: ranking_pb2.RankRequest, context: Any) -> ranking_pb2.RankResponse:
        del context
        self.received += 1
        if self.waiting_for and self.received >= self.waiting_for:
            self.enough.set()
        await self.gate.wait()
        return ranked(request.envelope.context.user_id)


@asynccontextmanager
async def gated_server() -> AsyncIterator[GatedServer]:
    """A server whose gate is open, for the duration of the body."""
    gated = GatedServer("", asyncio.Event())
    gated.gate.set()
    api = APIS["ranking.v1"]
    handler = grpc.unary_unary_rpc_method_handler(
        gated.rank,
        request_deserializer=api.unary.request_class.FromString,
        response_serializer=api.unary.response_class.SerializeToString,
    )
    server, _ = new_server(handlers=[grpc.method_handlers_generic_handler(api.service, {"Rank": handler})])
    gated.address = f"127.0.0.1:{listen(server, '127.0.0.1:0')}"
    await server.start()
    yield gated
    gated.gate.set()
    await server.stop(None)


def load_plan(folder: Path, address: str = "", **changes: Any) -> LoadPlan:
    """A plan of 100 requests in a quarter of a second with its files in a folder; an address is that of all models."""
    plan = LoadPlan(
        topology="direct",
        caller="homepage",
        use_cases=(UseCase("ContinueWatchingRanking", "ranking.v1"),),
        arrivals=Constant(400, 0.25),
        endpoints=Endpoints(),
        spool=folder / "spool.jsonl",
        summary=folder / "driver.json",
        contexts={"device": ("tv", "phone"), "country": ("US",)},
    )
    if address:
        target = DirectTarget("cw-ranker", "v1", (address,))
        names = [use_case.name for use_case in changes.get("use_cases", plan.use_cases)]
        changes["endpoints"] = Endpoints(direct=dict.fromkeys(names, target))
    return replace(plan, **changes)
