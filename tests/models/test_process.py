from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lab.transport import open_channel
from models.proto.ranking.v1 import ranking_pb2_grpc
from tests.models.replicas import ControlPlane, ReplicaProcess, rank_request
from tests.waiting import eventually


async def exit_code(process: subprocess.Popen[str]) -> int:
    return await asyncio.to_thread(process.wait, 30)


async def test_a_stream_in_flight_finishes_after_sigterm_and_health_says_not_serving(
    control_plane: ControlPlane,
    spawn_replica: Callable[..., ReplicaProcess],
) -> None:
    # given a replica with a stream in flight that takes longer than the replica would otherwise stay
    replica = await asyncio.to_thread(
        spawn_replica, control_plane.address, "--latency", "constant:2000", "--drain-s", "30"
    )
    await control_plane.load(1, "rows.v1")
    async with open_channel(replica.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        items = aiter(ranking_pb2_grpc.RankingStub(channel).RankStream(rank_request("rows", "v1")))
        await anext(items)

        # when it is told to end
        replica.process.send_signal(signal.SIGTERM)
        await eventually("draining", lambda: control_plane.last.draining)

        # then it serves on, says that it is going, and answers in full
        response = await health.Check(health_pb2.HealthCheckRequest(service="ranking.v1.Ranking"))
        assert response.status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert len([item async for item in items]) == 9
        assert await exit_code(replica.process) == 0
    assert "0 cut off" in replica.log.read_text()


async def test_a_health_watcher_does_not_hold_up_the_end(
    control_plane: ControlPlane, spawn_replica: Callable[..., ReplicaProcess]
) -> None:
    replica = await asyncio.to_thread(spawn_replica, control_plane.address, "--drain-s", "600")
    async with open_channel(replica.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        await watch.read()

        replica.process.send_signal(signal.SIGTERM)

        assert await exit_code(replica.process) == 0


async def test_a_drain_is_bounded(
    control_plane: ControlPlane,
    spawn_replica: Callable[..., ReplicaProcess],
) -> None:
    replica = await asyncio.to_thread(
        spawn_replica, control_plane.address, "--latency", "constant:600000", "--drain-s", "0.5"
    )
    await control_plane.load(1, "rows.v1")
    async with open_channel(replica.address) as channel:
        call = ranking_pb2_grpc.RankingStub(channel).RankStream(rank_request("rows", "v1", titles=100_000))
        await call.read()

        replica.process.send_signal(signal.SIGTERM)

        assert await exit_code(replica.process) == 0
        call.cancel()


async def test_with_no_control_plane_it_serves_and_ends_all_the_same(
    spawn_replica: Callable[..., ReplicaProcess],
) -> None:
    replica = await asyncio.to_thread(spawn_replica, "127.0.0.1:9", "--drain-s", "600")
    async with open_channel(replica.address) as channel:
        response = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert response.status == health_pb2.HealthCheckResponse.SERVING

    replica.process.send_signal(signal.SIGTERM)

    assert await exit_code(replica.process) == 0


REQUIRED = (
    *("--cluster", "c", "--replica", "c-a", "--listen", "127.0.0.1:0"),
    *("--advertise", "127.0.0.1:0", "--control-plane", "127.0.0.1:9"),
)


def failed_start(*arguments: str) -> list[str]:
    """The lines that a replica logs that does not start."""
    command = [sys.executable, "-m", "models.stub", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    return done.stderr.splitlines()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--cluster"),
        ((*REQUIRED, "--latency", "gamma:1"), "latency: 'gamma:1'"),
        ((*REQUIRED, "--error-rate", "2"), "error_rate: 2.0"),
        ((*REQUIRED, "--seed", "x"), "--seed"),
        ((*REQUIRED, "--listen", "nowhere"), "--listen: 'nowhere'"),
        ((*REQUIRED, "--drain-s", "-1"), "--drain-s: -1.0"),
        ((*REQUIRED, "--max-connection-age-s", "nan"), "--max-connection-age-s: nan"),
    ],
)
def test_a_bad_argument_is_one_line_and_status_1(arguments: tuple[str, ...], words: str) -> None:
    [line] = failed_start(*arguments)
    assert words in line


async def test_a_taken_port_is_one_line_and_status_1(control_plane: ControlPlane) -> None:
    log = await asyncio.to_thread(failed_start, *REQUIRED, "--listen", control_plane.address)

    assert f"cannot listen on {control_plane.address}" in log[-1]
