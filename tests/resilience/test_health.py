"""Replicas are asked whether they serve."""

from __future__ import annotations

import time

import pytest
from grpc_health.v1 import health_pb2

WITHIN_S = 15.0
# A setting that changes nothing here, but has the gateway tell replicas apart, as it does with health checks.
OTHERWISE = {"breaker": {"requests": 1000}}


async def say(replica, status: health_pb2.HealthCheckResponse.ServingStatus.ValueType) -> None:
    await replica.health.set("", status)


@pytest.mark.parametrize("topology", ["mesh", "gateway"])
async def test_one_that_says_that_it_does_not_serve_gets_nothing_until_it_does(topology: str, way) -> None:
    async with way(topology, **OTHERWISE) as opened:
        silent, _ = opened.replicas
        await say(silent, health_pb2.HealthCheckResponse.NOT_SERVING)
        await opened.ask(20)
        assert len(silent.seen) == 10

        await opened.place(*opened.replicas, health={"every": "50ms", "unhealthy": 2}, **OTHERWISE)
        give_up = time.monotonic() + WITHIN_S
        while silent.seen or not opened.sent:
            opened.forget()
            await opened.ask(20)
            assert time.monotonic() < give_up
        assert {"OK": 20} == opened.statuses

        await say(silent, health_pb2.HealthCheckResponse.SERVING)
        while not silent.seen:
            await opened.ask(20)
            assert time.monotonic() < give_up


@pytest.mark.parametrize("topology", ["mesh", "gateway"])
async def test_if_none_serves_requests_fail_at_once(topology: str, way) -> None:
    async with way(topology, health={"every": "50ms", "unhealthy": 1}) as opened:
        for replica in opened.replicas:
            await say(replica, health_pb2.HealthCheckResponse.NOT_SERVING)
        give_up = time.monotonic() + WITHIN_S
        while "OK" in opened.statuses or not opened.sent:
            opened.forget()
            await opened.ask(10)
            assert time.monotonic() < give_up
        assert {"UNAVAILABLE": 10} == opened.statuses
        assert not opened.arrived


async def test_a_grpc_client_that_routes_by_itself_asks_nobody(way) -> None:
    async with way("proxyless", health={"every": "50ms", "unhealthy": 1}) as opened:
        silent, _ = opened.replicas
        await say(silent, health_pb2.HealthCheckResponse.NOT_SERVING)
        await opened.ask(40)
        assert len(silent.seen) == 20
