"""What a stub says of itself, and how it is told to behave."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from lab.transport import open_blocking_channel
from models.proto.control.v1 import stub_pb2
from tests.models.replicas import RunningReplica

SERVICES = ("ranking.v1.Ranking", "fraud.v1.Fraud", "control.v1.StubControl")


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
    assert after == expected
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
    assert await replica.control.GetBehaviour(stub_pb2.GetBehaviourRequest()) == before


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

    assert services >= set(SERVICES)
    assert "RankRequest" in messages
