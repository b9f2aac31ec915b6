from __future__ import annotations  # RankingAsyncStub is a name for mypy only

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import pytest

from lab.client import DirectTarget, Endpoints
from lab.errors import UnitError
from lab.plugins.bench.harness.environment import Environment
from lab.plugins.bench.harness.result import BenchResult
from lab.plugins.bench.harness.variant import Variant
from lab.plugins.bench.suites import streaming
from lab.plugins.bench.suites.streaming import ITEM_MS, ITEMS, SERVICE_MS, Times, measure, result
from lab.transport import listen, new_server, open_channel
from models.proto.ranking.v1 import ranking_pb2, ranking_pb2_grpc

ROUNDS = 10
COST_MS = 1.0
LONG_ITEM_MS = 50.0
PROMPT = Times(unary=SERVICE_MS + COST_MS, first=ITEM_MS + COST_MS, last=SERVICE_MS + COST_MS, gap=ITEM_MS)

ANYWHERE = Environment(cast("Any", None), lambda _: None)


class Model(ranking_pb2_grpc.RankingServicer):
    """Takes its time, as a stub does, and may send what it likes."""

    def __init__(self, items: int = ITEMS, item_ms: float = ITEM_MS) -> None:
        self._items = items
        self._item_s = item_ms / 1e3

    @property
    def _titles(self) -> list[ranking_pb2.RankedTitle]:
        return [ranking_pb2.RankedTitle(id=f"t{number:02}", score=0.5) for number in range(ITEMS)]

    async def Rank(self, request: Any, context: Any) -> ranking_pb2.RankResponse:  # noqa: N802 (gRPC's name)
        del request, context
        await asyncio.sleep(ITEMS * self._item_s)
        return ranking_pb2.RankResponse(titles=self._titles)

    async def RankStream(  # noqa: N802 (gRPC's name)
        self, request: Any, context: Any
    ) -> AsyncIterator[ranking_pb2.RankStreamResponse]:
        del request, context
        for title in self._titles[: self._items]:
            await asyncio.sleep(self._item_s)
            yield ranking_pb2.RankStreamResponse(title=title)


class Buffering(ranking_pb2_grpc.RankingServicer):
    """A proxy that passes a stream on once it has so many items of it."""

    def __init__(self, upstream: ranking_pb2_grpc.RankingAsyncStub, at_once: int) -> None:
        self._upstream = upstream
        self._at_once = at_once

    async def Rank(self, request: Any, context: Any) -> Any:  # noqa: N802 (gRPC's name)
        del context
        return await self._upstream.Rank(request)

    async def RankStream(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802 (gRPC's name)
        del context
        held = []
        async for item in self._upstream.RankStream(request):
            held.append(item)
            if len(held) == self._at_once:
                for each in held:
                    yield each
                held.clear()
        for each in held:
            yield each


@asynccontextmanager
async def serving(servicer: ranking_pb2_grpc.RankingServicer) -> AsyncIterator[str]:
    server, _ = new_server()
    ranking_pb2_grpc.add_RankingServicer_to_server(servicer, server)
    port = listen(server, "127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


def path_to(address: str, name: str = "direct") -> Variant:
    return Variant(name, "direct", Endpoints(direct={"UpNext": DirectTarget("up-next", "v1", (address,))}))


def broken(found: BenchResult) -> list[str]:
    return [claim.text for claim in found.claims if not claim.holds]


def of(times: Times) -> BenchResult:
    return result(
        {"direct": [PROMPT] * ROUNDS, "mesh": [times] * ROUNDS, "direct, again": [PROMPT] * ROUNDS}, twice="direct"
    )


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        (lambda _: {"first": SERVICE_MS + COST_MS, "gap": 0.1}, "first item"),  # all held back
        (lambda _: {"first": 2 * ITEM_MS + COST_MS}, "first item"),  # in pairs
        (lambda _: {"gap": SERVICE_MS - ITEM_MS}, "longest gap"),  # all but the first held back
        (lambda prompt: {"last": 1.2 * prompt.unary}, "last item"),  # slow on each item
    ],
)
def test_a_path_that_holds_items_back_fails_its_claim(change: Callable[[Times], dict[str, float]], claim: str) -> None:
    [text] = broken(of(replace(PROMPT, **change(PROMPT))))
    assert text.startswith(claim)
    assert "mesh" in text


def test_a_path_that_is_slow_on_everything_holds_nothing_back() -> None:
    slow = Times(unary=PROMPT.unary + 3, first=PROMPT.first + 3, last=PROMPT.last + 3, gap=ITEM_MS)
    assert broken(of(slow)) == []


def test_an_answer_sooner_than_the_stub_gives_one_supports_no_claim() -> None:
    assert "first item" in broken(of(replace(PROMPT, unary=SERVICE_MS - 2 * ITEM_MS)))[0]


def test_a_control_that_differs_from_itself_is_no_control() -> None:
    seen = {"direct": [PROMPT] * ROUNDS, "direct, again": [replace(PROMPT, first=2 * PROMPT.first)] * ROUNDS}
    measured = result(seen, twice="direct")
    assert [control.agrees for control in measured.controls] == [False]
    assert all(claim.doubts for claim in measured.claims)


@pytest.mark.parametrize("at_once", [ITEMS, 3])
async def test_a_proxy_that_buffers_is_seen(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    # Items as far apart as makes little of what a busy machine adds to both ways.
    monkeypatch.setattr(streaming, "ITEM_MS", LONG_ITEM_MS)
    monkeypatch.setattr(streaming, "SERVICE_MS", ITEMS * LONG_ITEM_MS)
    monkeypatch.setattr(streaming, "PAIRS", 1)
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(serving(Model(item_ms=LONG_ITEM_MS)))
        upstream = ranking_pb2_grpc.RankingStub(await stack.enter_async_context(open_channel(model)))
        proxy = await stack.enter_async_context(serving(Buffering(upstream, at_once)))
        variants = [path_to(model), path_to(proxy, "buffering"), path_to(model, "direct, again")]
        seen = await measure(variants, 3, ANYWHERE)

    claims = {claim.text: claim for claim in result(seen, twice="direct").claims}
    late = {
        path: claims[f"first item / (one item's time + the path's overhead), {path}"]
        for path in ("direct", "buffering")
    }
    assert not late["buffering"].holds
    assert late["direct"].figure.estimate < late["buffering"].figure.estimate / 1.5


async def test_a_stream_that_lacks_an_item_measures_nothing() -> None:
    async with serving(Model(items=ITEMS - 1)) as address:
        with pytest.raises(UnitError, match="the stream's 9 items are not the 10"):
            await measure([path_to(address)], 3, ANYWHERE)


@pytest.mark.timeout(120)
def test_the_bench_goes_through_every_topology_of_the_lab(
    monkeypatch: pytest.MonkeyPatch, environment: Environment
) -> None:
    # One a round would be what the other workers of the suite make of it.
    monkeypatch.setattr(streaming, "PAIRS", 3)
    found = streaming.run(environment, 3)

    topologies = environment.topologies
    paths = [text.rpartition(", ")[2] for claim in found.claims if (text := claim.text).startswith("first item")]
    assert paths == list(topologies)
    kinds = ("unary answer", "first item", "last item")
    for topology in topologies:
        unary, first, last = (found.medians()[f"{topology}, {kind}"] for kind in kinds)
        assert first < unary
        assert first < last
