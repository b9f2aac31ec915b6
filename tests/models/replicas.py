"""A scripted control plane, replicas that register with it, and requests to them."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import grpc.aio

from lab.transport import listen, new_server
from models.proto.control.v1 import replicas_pb2, replicas_pb2_grpc, stub_pb2_grpc
from models.proto.fraud.v1 import fraud_pb2_grpc
from models.proto.ranking.v1 import ranking_pb2, ranking_pb2_grpc
from models.stub.replica import Replica
from tests.waiting import eventually


@dataclass(eq=False)
class ControlPlane(replicas_pb2_grpc.ReplicasServicer):
    """Plays the control plane's side of registration by script, over a real server."""

    address: str = "127.0.0.1:0"
    assignment: replicas_pb2.Assignment | None = None
    reports: list[replicas_pb2.ReplicaReport] = field(default_factory=list)
    registrations: int = 0
    open_streams: set[asyncio.Queue[replicas_pb2.Assignment | None]] = field(default_factory=set)
    _server: grpc.aio.Server | None = None

    async def start(self) -> None:
        self._server, _ = new_server()
        replicas_pb2_grpc.add_ReplicasServicer_to_server(self, self._server)
        port = listen(self._server, self.address)
        self.address = f"127.0.0.1:{port}"
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    def assign(self, revision: int, *keys: str) -> None:
        versions = []
        for key in keys:
            model, _, version = key.partition(".")
            versions.append(replicas_pb2.AssignedVersion(routing_key=key, model=model, version=version))
        self.send(replicas_pb2.Assignment(revision=revision, versions=versions))

    async def load(self, revision: int, *keys: str) -> None:
        """Assigns model versions, and waits until the replica holds them."""
        self.assign(revision, *keys)
        await self.holds(*keys, revision=revision)

    def send(self, assignment: replicas_pb2.Assignment) -> None:
        self.assignment = assignment
        for stream in self.open_streams:
            stream.put_nowait(assignment)

    def end_streams(self) -> None:
        for stream in self.open_streams:
            stream.put_nowait(None)

    @property
    def last(self) -> replicas_pb2.ReplicaReport:
        return self.reports[-1] if self.reports else replicas_pb2.ReplicaReport()

    async def holds(self, *keys: str, revision: int | None = None) -> replicas_pb2.ReplicaReport:
        return await eventually(
            f"holds {keys}",
            lambda: self.last,
            until=lambda report: list(report.loaded) == sorted(keys) and revision in (None, report.revision),
        )

    async def Register(  # noqa: N802 (the protocol's name)
        self,
        request_iterator: AsyncIterator[replicas_pb2.ReplicaReport],
        context: grpc.aio.ServicerContext[Any, Any],  # noqa: ARG002
    ) -> AsyncIterator[replicas_pb2.Assignment]:
        stream: asyncio.Queue[replicas_pb2.Assignment | None] = asyncio.Queue()
        self.open_streams.add(stream)
        self.registrations += 1

        async def read() -> None:
            async for report in request_iterator:
                self.reports.append(report)

        reader = asyncio.create_task(read())
        try:
            if self.assignment is not None:
                yield self.assignment
            while (assignment := await stream.get()) is not None:
                yield assignment
        finally:
            reader.cancel()
            self.open_streams.discard(stream)


class StartReplica(Protocol):
    async def __call__(self, *arguments: str) -> RunningReplica: ...


@dataclass(frozen=True, slots=True)
class RunningReplica:
    """A replica in this process, and clients of it."""

    replica: Replica
    channel: grpc.aio.Channel
    stop: asyncio.Event
    task: asyncio.Task[None]
    ranking: ranking_pb2_grpc.RankingAsyncStub
    fraud: fraud_pb2_grpc.FraudAsyncStub
    control: stub_pb2_grpc.StubControlAsyncStub


def replica_arguments(control_plane: str, *more: str) -> list[str]:
    return [
        *("--cluster", "ml-cluster-1", "--replica", "ml-cluster-1-a"),
        *("--listen", "127.0.0.1:0", "--advertise", "127.0.0.1:0", "--control-plane", control_plane),
        *("--warm-up-ms", "0", *more),
    ]


def rank_request(model: str = "", version: str = "", titles: int = 10, user: str = "u1") -> ranking_pb2.RankRequest:
    """A request for one version of a model, as the gateway or the sidecar passes it on."""
    request = ranking_pb2.RankRequest(titles=[ranking_pb2.Title(id=f"t{number:02}") for number in range(titles)])
    request.envelope.context.user_id = user
    request.envelope.model_config.model = model
    request.envelope.model_config.version = version
    return request


@dataclass(frozen=True, slots=True)
class ReplicaProcess:
    """A replica in its own process."""

    process: subprocess.Popen[str]
    address: str
    log: Path
