"""A control plane by script, and replicas that register with it: in this process or in one of their own."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from lab.transport import open_channel
from lab.waiting import eventually
from models.proto.control.v1 import stub_pb2_grpc
from models.proto.fraud.v1 import fraud_pb2_grpc
from models.proto.ranking.v1 import ranking_pb2_grpc
from models.stub.options import parse_options
from models.stub.replica import Replica
from tests.models.replicas import ControlPlane, ReplicaProcess, RunningReplica, StartReplica, replica_arguments

ROOT = Path(__file__).resolve().parents[2]
WITHIN = timedelta(seconds=20)


@pytest.fixture
async def control_plane() -> AsyncIterator[ControlPlane]:
    double = ControlPlane()  # type: ignore[abstract]  # gRPC answers for the methods that are not there
    await double.start()
    yield double
    await double.stop()


@pytest.fixture
async def start_replica(control_plane: ControlPlane) -> AsyncIterator[StartReplica]:
    async with AsyncExitStack() as stack:

        async def start(*arguments: str) -> RunningReplica:
            replica = Replica(parse_options(replica_arguments(control_plane.address, *arguments)))
            stop = asyncio.Event()
            task = asyncio.create_task(replica.run(stop))

            async def end() -> None:
                stop.set()
                await task

            stack.push_async_callback(end)
            channel = await stack.enter_async_context(open_channel(replica.address))
            ready = asyncio.ensure_future(channel.channel_ready())
            await asyncio.wait((ready, task), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                ready.cancel()
                task.result()
            return RunningReplica(
                replica,
                channel,
                stop,
                task,
                ranking_pb2_grpc.RankingStub(channel),
                fraud_pb2_grpc.FraudStub(channel),
                stub_pb2_grpc.StubControlStub(channel),
            )

        yield start


@pytest.fixture
def spawn_replica(tmp_path: Path) -> Iterator[Callable[..., ReplicaProcess]]:
    processes: list[subprocess.Popen[str]] = []

    def spawn(control_plane: str, *arguments: str) -> ReplicaProcess:
        log = tmp_path / f"replica-{len(processes)}.log"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "models.stub", *replica_arguments(control_plane, *arguments)],
                cwd=ROOT,
                stderr=stderr,
                text=True,
            )
        processes.append(process)

        def address() -> str:
            said = log.read_text()
            assert process.poll() is None, said
            found = re.search(r"serves at (\S+)", said)
            return found[1] if found else ""

        return ReplicaProcess(process, eventually("the replica serves", address, within=WITHIN), log)

    yield spawn
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
async def replica(control_plane: ControlPlane, start_replica: StartReplica) -> RunningReplica:
    started = await start_replica()
    await control_plane.load(7, "rows.v1", "rows.v2", "fraud.v1")
    return started
