from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import quote

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from lab.transport import open_blocking_channel
from models.proto.control.v1 import stub_pb2
from models.proto.fraud.v1 import fraud_pb2
from models.proto.serving.v1 import serving_pb2
from models.scoring import scores

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import ControlPlane, RunningReplica, StartReplica

    from models.proto.ranking.v1 import ranking_pb2

KEY = "x-routing-key"


@pytest.fixture
async def replica(control_plane: ControlPlane, start_replica: StartReplica) -> RunningReplica:
    started = await start_replica()
    control_plane.assign(7, "rows.v1", "rows.v2", "fraud.v1")
    await control_plane.holds("rows.v1", "rows.v2", "fraud.v1")
    return started


async def test_rank_answers_best_first_and_says_who_answered(
    replica: RunningReplica, rank_request: Callable[..., ranking_pb2.RankRequest]
) -> None:
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


async def test_rank_stream_gives_the_same_answer_title_by_title(
    replica: RunningReplica, rank_request: Callable[..., ranking_pb2.RankRequest]
) -> None:
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


async def test_no_titles_make_an_empty_answer(
    replica: RunningReplica, rank_request: Callable[..., ranking_pb2.RankRequest]
) -> None:
    request = rank_request("rows", "v1", titles=0)

    assert not (await replica.ranking.Rank(request)).titles
    assert [item async for item in replica.ranking.RankStream(request)] == []


@pytest.mark.parametrize(
    ("body", "keys", "code"),
    [
        pytest.param(("rows", "v1"), ("rows.v2",), grpc.StatusCode.FAILED_PRECONDITION, id="tear"),
        pytest.param(("rows", "v3"), (), grpc.StatusCode.FAILED_PRECONDITION, id="not loaded"),
        pytest.param(("", ""), (), grpc.StatusCode.FAILED_PRECONDITION, id="names nothing"),
        pytest.param(("rows", "v1"), ("rows.v1", "rows.v2"), grpc.StatusCode.INVALID_ARGUMENT, id="two keys"),
    ],
)
async def test_a_refusal_has_its_status_on_both_apis_and_leaves_nothing_in_flight(
    replica: RunningReplica,
    rank_request: Callable[..., ranking_pb2.RankRequest],
    body: tuple[str, str],
    keys: tuple[str, ...],
    code: grpc.StatusCode,
) -> None:
    metadata = tuple((KEY, key) for key in keys)

    with pytest.raises(grpc.aio.AioRpcError) as unary:
        await replica.ranking.Rank(rank_request(*body), metadata=metadata)
    with pytest.raises(grpc.aio.AioRpcError) as stream:
        [item async for item in replica.ranking.RankStream(rank_request(*body), metadata=metadata)]

    assert (code, code) == (unary.value.code(), stream.value.code())
    assert unary.value.details() == stream.value.details()
    assert replica.replica.desk.in_flight == 0


async def test_errors_are_internal_and_name_the_key(
    replica: RunningReplica, rank_request: Callable[..., ranking_pb2.RankRequest]
) -> None:
    await replica.control.SetBehaviour(stub_pb2.Behaviour(error_rate=1))

    with pytest.raises(grpc.aio.AioRpcError, match=r"rows\.v1") as unary:
        await replica.ranking.Rank(rank_request("rows", "v1"))
    with pytest.raises(grpc.aio.AioRpcError, match=r"rows\.v1") as stream:
        [item async for item in replica.ranking.RankStream(rank_request("rows", "v1"))]

    assert [unary.value.code(), stream.value.code()] == [grpc.StatusCode.INTERNAL] * 2


async def test_over_the_concurrency_limit_is_refused_with_key_and_limit_and_the_rest_is_served(
    replica: RunningReplica, rank_request: Callable[..., ranking_pb2.RankRequest], eventually: Callable[..., object]
) -> None:
    slow = stub_pb2.Behaviour(concurrency_limit=2, constant=stub_pb2.ConstantLatency(ms=600_000))
    await replica.control.SetBehaviour(slow)
    calls = [replica.ranking.Rank(rank_request("rows", "v1")) for _ in range(2)]
    running = [asyncio.ensure_future(call) for call in calls]
    await eventually("two in flight", lambda: replica.replica.desk.in_flight, lambda n: n == 2)

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await replica.ranking.Rank(rank_request("rows", "v1"))

    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "rows.v1" in (refused.value.details() or "")
    assert "2 requests" in (refused.value.details() or "")
    for call in calls:
        call.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await eventually("cancelled calls are no longer in flight", lambda: not replica.replica.desk.in_flight)


async def test_a_queue_serves_whom_it_took_in_as_they_came_and_refuses_the_rest(
    replica: RunningReplica, rank_request: Callable[..., ranking_pb2.RankRequest], eventually: Callable[..., object]
) -> None:
    slow = stub_pb2.ConstantLatency(ms=600_000)
    await replica.control.SetBehaviour(stub_pb2.Behaviour(concurrency_limit=1, queue_limit=2, constant=slow))
    first = replica.ranking.Rank(rank_request("rows", "v1"))
    served = asyncio.ensure_future(first)
    await eventually("one is served", lambda: replica.replica.desk.in_flight, lambda n: n == 1)
    given_up = replica.ranking.Rank(rank_request("rows", "v1"))
    left = asyncio.ensure_future(given_up)
    await eventually("one waits", lambda: replica.replica.desk.in_flight, lambda n: n == 2)
    stream = replica.ranking.RankStream(rank_request("rows", "v1"))
    item = asyncio.ensure_future(stream.read())
    await eventually("two wait", lambda: replica.replica.desk.in_flight, lambda n: n == 3)

    with pytest.raises(grpc.aio.AioRpcError, match="2 wait, its queue_limit") as refused:
        await replica.ranking.Rank(rank_request("rows", "v1"))
    await replica.control.SetBehaviour(stub_pb2.Behaviour(constant=stub_pb2.ConstantLatency(ms=0)))
    given_up.cancel()
    await eventually("who gives up leaves the queue", lambda: replica.replica.desk.in_flight, lambda n: n == 2)
    first.cancel()

    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await item).title.id
    await asyncio.gather(served, left, return_exceptions=True)
    stream.cancel()
    await eventually("nothing is in flight", lambda: not replica.replica.desk.in_flight)


async def test_one_tenants_flood_is_refused_by_name_while_others_are_served(
    replica: RunningReplica, rank_request: Callable[..., ranking_pb2.RankRequest], eventually: Callable[..., object]
) -> None:
    def of(tenant: str) -> ranking_pb2.RankRequest:
        request = rank_request("rows", "v1")
        request.envelope.use_case = "HomepageRows"
        request.envelope.context.tenant = tenant
        return request

    slow = stub_pb2.Behaviour(tenant_concurrency_limit=2, constant=stub_pb2.ConstantLatency(ms=600_000))
    await replica.control.SetBehaviour(slow)
    calls = [replica.ranking.Rank(of("noisy")), replica.ranking.RankStream(of("noisy"))]
    running = [asyncio.ensure_future(calls[0]), asyncio.ensure_future(calls[1].read())]
    await eventually("two in flight", lambda: replica.replica.desk.in_flight, lambda n: n == 2)

    for refused in (replica.ranking.Rank(of("noisy")), replica.ranking.RankStream(of("noisy")).read()):
        with pytest.raises(grpc.aio.AioRpcError) as over:
            await refused
        assert over.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for word in ("'noisy'", "'HomepageRows'", "rows.v1", "2 requests of one tenant", "tenant_concurrency_limit"):
            assert word in (over.value.details() or "")
    await replica.control.SetBehaviour(stub_pb2.Behaviour(constant=stub_pb2.ConstantLatency(ms=0)))
    for quiet in ("quiet", ""):
        assert (await replica.ranking.Rank(of(quiet))).titles

    for call in calls:
        call.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await eventually("cancelled calls are no longer in flight", lambda: not replica.replica.desk.in_flight)
    assert (await replica.ranking.Rank(of("noisy"))).titles


@pytest.mark.parametrize("origin", ["REAL", "ARTIFICIAL", "UNSPECIFIED"])
async def test_every_answer_says_which_origin_and_tenant_the_model_saw(
    replica: RunningReplica, rank_request: Callable[..., ranking_pb2.RankRequest], origin: str
) -> None:
    number = serving_pb2.TrafficOrigin.Value(f"TRAFFIC_ORIGIN_{origin}")
    request = rank_request("rows", "v1")
    request.envelope.context.traffic_origin = number
    request.envelope.context.tenant = "ads"
    payment = fraud_pb2.ScoreRequest(envelope=request.envelope)
    payment.envelope.model_config.model = "fraud"

    answers = [
        await replica.ranking.Rank(request),
        await replica.fraud.Score(payment),
        *[item async for item in replica.ranking.RankStream(request)],
    ]

    assert {(True, number, True, "ads")} == {
        (by.HasField("traffic_origin"), by.traffic_origin, by.HasField("tenant"), by.tenant)
        for by in (answer.answered_by for answer in answers)
    }


@pytest.mark.parametrize(("header", "tenant"), [("ads", "kids"), ("ads", ""), ("%", "ads")])
async def test_a_header_that_names_another_tenant_than_the_body_is_refused(
    replica: RunningReplica, rank_request: Callable[..., ranking_pb2.RankRequest], header: str, tenant: str
) -> None:
    request = rank_request("rows", "v1")
    request.envelope.context.tenant = tenant

    with pytest.raises(grpc.aio.AioRpcError, match="name the same tenant in both") as refused:
        await replica.ranking.Rank(request, metadata=(("x-tenant", header),))

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert replica.replica.desk.in_flight == 0
    right = quote(tenant, safe="") or "%"
    assert (await replica.ranking.Rank(request, metadata=(("x-tenant", right),))).titles


async def test_an_origin_that_does_not_exist_is_refused(
    replica: RunningReplica, rank_request: Callable[..., ranking_pb2.RankRequest]
) -> None:
    request = rank_request("rows", "v1")
    request.envelope.context.traffic_origin = 7  # type: ignore[assignment]  # protobuf lets it through

    for call in (replica.ranking.Rank(request), replica.ranking.RankStream(request).read()):
        with pytest.raises(grpc.aio.AioRpcError, match=r"traffic_origin: 7 is not known; write 'real'") as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert replica.replica.desk.in_flight == 0


async def test_a_stream_whose_client_leaves_is_no_longer_in_flight(
    replica: RunningReplica, rank_request: Callable[..., ranking_pb2.RankRequest], eventually: Callable[..., object]
) -> None:
    await replica.control.SetBehaviour(stub_pb2.Behaviour(constant=stub_pb2.ConstantLatency(ms=20_000)))
    call = replica.ranking.RankStream(rank_request("rows", "v1", titles=1_000))
    await call.read()

    call.cancel()

    await eventually("nothing in flight", lambda: not replica.replica.desk.in_flight)


async def test_a_stream_spreads_its_service_time_over_its_titles(
    replica: RunningReplica, rank_request: Callable[..., ranking_pb2.RankRequest]
) -> None:
    loop = asyncio.get_running_loop()
    await replica.control.SetBehaviour(stub_pb2.Behaviour(constant=stub_pb2.ConstantLatency(ms=200)))
    began = loop.time()

    arrivals = [loop.time() - began async for _ in replica.ranking.RankStream(rank_request("rows", "v1", titles=4))]

    # Timers never fire early; how late they fire is the machine's affair.
    assert [arrival >= 0.045 * place for arrival, place in zip(arrivals, range(1, 5), strict=True)] == [True] * 4, (
        arrivals
    )


async def test_a_stream_takes_no_longer_than_the_whole_answer_however_many_items_it_has(
    replica: RunningReplica, rank_request: Callable[..., ranking_pb2.RankRequest]
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


async def test_behaviour_is_read_back_as_it_was_set_and_the_rest_stays(replica: RunningReplica) -> None:
    before = await replica.control.GetBehaviour(stub_pb2.GetBehaviourRequest())

    after = await replica.control.SetBehaviour(
        stub_pb2.Behaviour(
            lognormal=stub_pb2.LognormalLatency(median_ms=0.1, sigma=0.4),
            refuse_to_load=stub_pb2.RoutingKeys(routing_keys=["rows.v9"]),
        )
    )

    assert before.WhichOneof("latency") == "constant"
    expected = stub_pb2.Behaviour()
    expected.CopyFrom(before)
    expected.lognormal.median_ms, expected.lognormal.sigma = 0.1, 0.4
    expected.refuse_to_load.routing_keys.append("rows.v9")
    assert expected == after
    assert after == await replica.control.GetBehaviour(stub_pb2.GetBehaviourRequest())


async def test_load_dependent_latency_and_zeroes_can_be_set(replica: RunningReplica) -> None:
    load = stub_pb2.LoadDependentLatency(ms=1, knee=16)
    await replica.control.SetBehaviour(stub_pb2.Behaviour(load_dependent=load, error_rate=0.5, concurrency_limit=9))

    after = await replica.control.SetBehaviour(stub_pb2.Behaviour(error_rate=0, concurrency_limit=0))

    assert (load, 0.0, 0) == (after.load_dependent, after.error_rate, after.concurrency_limit)


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (stub_pb2.Behaviour(error_rate=1.5), ("error_rate", "1.5", "0 to 1")),
        (stub_pb2.Behaviour(constant=stub_pb2.ConstantLatency(ms=-1)), ("constant.ms", "-1", "milliseconds")),
        (stub_pb2.Behaviour(lognormal=stub_pb2.LognormalLatency(median_ms=1)), ("lognormal.sigma", "0.0", "0.4")),
        (stub_pb2.Behaviour(load_dependent=stub_pb2.LoadDependentLatency(ms=1)), ("load_dependent.knee", "0.0", "16")),
        (
            stub_pb2.Behaviour(refuse_to_load=stub_pb2.RoutingKeys(routing_keys=["Rows"])),
            ("refuse_to_load", "Rows", "fraud.v1"),
        ),
        (stub_pb2.Behaviour(warm_up_ms=float("nan")), ("warm_up_ms", "nan", "milliseconds")),
    ],
)
async def test_a_value_out_of_range_is_refused_with_field_value_and_remedy(
    replica: RunningReplica, behaviour: stub_pb2.Behaviour, words: tuple[str, ...]
) -> None:
    before = await replica.control.GetBehaviour(stub_pb2.GetBehaviourRequest())

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await replica.control.SetBehaviour(behaviour)

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [word for word in words if word not in (refused.value.details() or "")] == []
    assert before == await replica.control.GetBehaviour(stub_pb2.GetBehaviourRequest())


SERVICES = ("ranking.v1.Ranking", "fraud.v1.Fraud", "control.v1.StubControl")


@pytest.mark.parametrize("service", ["", *SERVICES])
async def test_health_is_known_per_service_and_as_a_whole(replica: RunningReplica, service: str) -> None:
    stub = health_pb2_grpc.HealthStub(replica.channel)

    response = await stub.Check(health_pb2.HealthCheckRequest(service=service))

    assert response.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_the_services_and_their_messages(replica: RunningReplica) -> None:
    def ask() -> tuple[set[str], list[str]]:
        with open_blocking_channel(replica.replica.address) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            file = database.FindFileContainingSymbol("ranking.v1.Ranking")
            return set(database.get_services()), [message.name for message in file.message_type]

    services, messages = await asyncio.to_thread(ask)

    assert set(SERVICES) <= services
    assert "RankRequest" in messages


async def test_megabytes_are_ranked(
    replica: RunningReplica, rank_request: Callable[..., ranking_pb2.RankRequest]
) -> None:
    request = rank_request("rows", "v1")
    for title in request.titles:
        title.features.extend([0.5] * 250_000)

    response = await replica.ranking.Rank(request)

    assert len(response.titles) == 10


async def test_a_copy_is_served_by_its_key_remembered_and_not_counted_as_a_request(
    replica: RunningReplica, rank_request: Callable[..., ranking_pb2.RankRequest]
) -> None:
    request = rank_request("rows", "v1")
    as_copy = ((KEY, "rows.v2"), ("x-shadow", "copy"))
    for number in range(3):
        request.envelope.request_id = f"r{number}"
        assert (await replica.ranking.Rank(request, metadata=as_copy)).answered_by.version == "v2"
    request.envelope.request_id = "streamed"
    assert {"v2"} == {each.answered_by.version async for each in replica.ranking.RankStream(request, metadata=as_copy)}
    with pytest.raises(grpc.aio.AioRpcError, match="tear"):
        await replica.ranking.Rank(request, metadata=((KEY, "rows.v2"),))
    with pytest.raises(grpc.aio.AioRpcError, match="tear"):
        await replica.ranking.Rank(request, metadata=((KEY, "rows.v2"), ("x-shadow", "original")))

    counts = await replica.control.GetCounts(stub_pb2.GetCountsRequest())
    assert (2, 2, 4) == (counts.requests, counts.tears, counts.copies)
    [copies] = (await replica.control.Copies(stub_pb2.CopiesRequest())).versions
    assert ("rows.v2", 0) == (copies.routing_key, copies.forgotten)
    assert ["r0", "r1", "r2", "streamed"] == list(copies.request_ids)


async def test_a_copy_of_a_version_that_is_not_held_is_refused_and_not_remembered(
    replica: RunningReplica, rank_request: Callable[..., ranking_pb2.RankRequest]
) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=r"rows@v9.*is not loaded"):
        await replica.ranking.Rank(rank_request("rows", "v1"), metadata=((KEY, "rows.v9"), ("x-shadow", "copy")))

    assert not (await replica.control.Copies(stub_pb2.CopiesRequest())).versions


async def test_copies_take_no_place_from_requests(
    replica: RunningReplica,
    rank_request: Callable[..., ranking_pb2.RankRequest],
    eventually: Callable[..., object],
) -> None:
    latency = stub_pb2.ConstantLatency(ms=60_000)
    await replica.control.SetBehaviour(stub_pb2.Behaviour(constant=latency, concurrency_limit=1))
    as_copy = ((KEY, "rows.v2"), ("x-shadow", "copy"))
    slow = replica.ranking.Rank(rank_request("rows", "v1"), metadata=as_copy)
    copies = replica.replica.desk.copies
    await eventually("the copy has come", lambda: copies.count == 1)
    with pytest.raises(grpc.aio.AioRpcError, match="concurrency_limit"):
        await replica.ranking.Rank(rank_request("rows", "v1"), metadata=as_copy)

    await replica.control.SetBehaviour(stub_pb2.Behaviour(constant=stub_pb2.ConstantLatency(ms=0)))
    assert (await replica.ranking.Rank(rank_request("rows", "v1"))).answered_by.version == "v1"
    slow.cancel()
