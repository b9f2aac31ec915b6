"""Health checks of replicas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from tests.parts import Model
from tests.resilience.paths import open_path

# A setting that changes nothing here, but has the gateway tell replicas apart, as it does with health checks.
OTHERWISE: dict[str, Any] = {"breaker": {"requests": 1000}}


async def say(replica: Model, status: health_pb2.HealthCheckResponse.ServingStatus.ValueType) -> None:
    await replica.health.set("", status)


@pytest.mark.parametrize("topology", ["mesh", "gateway"])
async def test_a_replica_that_reports_not_serving_gets_no_requests(topology: str, tmp_path: Path) -> None:
    async with open_path(tmp_path, topology, **OTHERWISE) as opened:
        silent, _ = opened.replicas
        await say(silent, health_pb2.HealthCheckResponse.NOT_SERVING)
        await opened.ask(20)
        assert len(silent.seen) == 10

        await opened.place(*opened.replicas, health={"every": "50ms", "unhealthy": 2}, **OTHERWISE)
        await opened.ask_until("it is left out", lambda: not silent.seen, 20, of_last_batch=True)
        assert opened.statuses == {"OK": 20}

        await say(silent, health_pb2.HealthCheckResponse.SERVING)
        await opened.ask_until("it is asked again", lambda: bool(silent.seen), 20)


@pytest.mark.parametrize("topology", ["mesh", "gateway"])
async def test_without_a_serving_replica_requests_fail_at_once(topology: str, tmp_path: Path) -> None:
    async with open_path(tmp_path, topology, health={"every": "50ms", "unhealthy": 1}) as opened:
        for replica in opened.replicas:
            await say(replica, health_pb2.HealthCheckResponse.NOT_SERVING)
        await opened.ask_until("none answers", lambda: "OK" not in opened.statuses, 10, of_last_batch=True)
        assert opened.statuses == {"UNAVAILABLE": 10}
        assert not opened.arrived


async def test_proxyless_clients_make_no_health_checks(tmp_path: Path) -> None:
    async with open_path(tmp_path, "proxyless", health={"every": "50ms", "unhealthy": 1}) as opened:
        silent, _ = opened.replicas
        await say(silent, health_pb2.HealthCheckResponse.NOT_SERVING)
        await opened.ask(40)
        assert len(silent.seen) == 20
