from __future__ import annotations

import asyncio

from models.proto.control.v1 import stub_pb2
from models.proto.fraud.v1 import fraud_pb2
from models.scoring import scores
from tests.models.replicas import RunningReplica, rank_request
from tests.waiting import eventually

KEY = "x-routing-key"


async def test_rank_answers_best_first_and_names_its_source(replica: RunningReplica) -> None:
    request = rank_request("rows", "v2")

    response = await replica.ranking.Rank(request, metadata=((KEY, "rows.v2"),))

    ids = [title.id for title in request.titles]
    by_id = dict(zip(ids, scores("rows", "v2", "u1", ids), strict=True))
    assert sorted(ids, key=by_id.__getitem__, reverse=True) == [title.id for title in response.titles]
    assert by_id == {title.id: title.score for title in response.titles}
    by = response.answered_by
    assert (
        *(by.cluster, by.model, by.version),
        *(by.replica, by.revision),
    ) == ("ml-cluster-1", "rows", "v2", "ml-cluster-1-a", 7)


async def test_rank_stream_gives_the_same_answer_title_by_title(replica: RunningReplica) -> None:
    whole = await replica.ranking.Rank(rank_request("rows", "v1"))

    streamed = [item async for item in replica.ranking.RankStream(rank_request("rows", "v1"))]

    assert list(whole.titles) == [item.title for item in streamed]
    assert all(whole.answered_by == item.answered_by for item in streamed)


async def test_fraud_scores_one_payment(replica: RunningReplica) -> None:
    request = fraud_pb2.ScoreRequest(payment=fraud_pb2.Payment(id="p1"))
    request.envelope.context.user_id = "u1"

    response = await replica.fraud.Score(request, metadata=((KEY, "fraud.v1"),))

    assert ("p1", *scores("fraud", "v1", "u1", ["p1"])) == (response.payment_id, response.score)
    assert (response.answered_by.model, response.answered_by.version) == ("fraud", "v1")


async def test_no_titles_make_an_empty_answer(replica: RunningReplica) -> None:
    request = rank_request("rows", "v1", titles=0)

    assert not (await replica.ranking.Rank(request)).titles
    assert [item async for item in replica.ranking.RankStream(request)] == []


async def test_a_stream_whose_client_leaves_is_no_longer_in_flight(replica: RunningReplica) -> None:
    await replica.control.SetBehaviour(stub_pb2.Behaviour(constant=stub_pb2.ConstantLatency(ms=20_000)))
    call = replica.ranking.RankStream(rank_request("rows", "v1", titles=1_000))
    await call.read()

    call.cancel()

    await eventually("nothing in flight", lambda: not replica.replica.handler.in_flight)


async def test_a_stream_spreads_its_service_time_over_its_titles(replica: RunningReplica) -> None:
    loop = asyncio.get_running_loop()
    await replica.control.SetBehaviour(stub_pb2.Behaviour(constant=stub_pb2.ConstantLatency(ms=200)))
    began = loop.time()

    arrivals = [loop.time() - began async for _ in replica.ranking.RankStream(rank_request("rows", "v1", titles=4))]

    # Timers never fire early; how late they fire is the machine's affair.
    assert [arrival >= 0.045 * place for arrival, place in zip(arrivals, range(1, 5), strict=True)] == [True] * 4, (
        arrivals
    )


async def test_a_stream_takes_no_longer_than_the_whole_answer_however_many_items_it_has(
    replica: RunningReplica,
) -> None:
    loop = asyncio.get_running_loop()
    await replica.control.SetBehaviour(stub_pb2.Behaviour(constant=stub_pb2.ConstantLatency(ms=200)))
    request = rank_request("rows", "v1", titles=400)
    times: dict[str, list[float]] = {"unary": [], "stream": []}
    for _ in range(3):
        began = loop.time()
        await replica.ranking.Rank(request)
        times["unary"].append(loop.time() - began)
        began = loop.time()
        assert len([item async for item in replica.ranking.RankStream(request)]) == 400
        times["stream"].append(loop.time() - began)

    # Were each sleep late by itself, by 0.1 ms to 1 ms, 400 of them would add up to more than this.
    assert min(times["stream"]) < 1.5 * min(times["unary"])


async def test_megabytes_are_ranked(replica: RunningReplica) -> None:
    request = rank_request("rows", "v1")
    for title in request.titles:
        title.features.extend([0.5] * 250_000)

    response = await replica.ranking.Rank(request)

    assert len(response.titles) == 10
