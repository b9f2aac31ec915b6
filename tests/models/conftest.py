"""A scripted control plane, and replicas that register with it: in this process or in one of their own."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pytest

from lab.errors import DeadlineError
from lab.transport import listen, new_server, open_channel
from models.proto.control.v1 import replicas_pb2, replicas_pb2_grpc, stub_pb2_grpc
from models.proto.fraud.v1 import fraud_pb2_grpc
from models.proto.ranking.v1 import ranking_pb2, ranking_pb2_grpc
from models.stub.options import parse_options
from models.stub.replica import Replica

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    import grpc.aio

ROOT = Path(__file__).resolve().parents[2]
WITHIN_S = 20.0

T = TypeVar("T")


async def _eventually(what: str, probe: Callable[[], T], until: Callable[[T], bool] = bool) -> T:
    """The asyncio sibling of lab.waiting.eventually: the event loop runs on while this waits."""
    give_up = time.monotonic() + WITHIN_S
    while not until(seen := probe()):
        if time.monotonic() >= give_up:
            raise DeadlineError(f"{what}: not within {WITHIN_S:g} s; last seen: {seen!r}")
        await asyncio.sleep(0.01)
    return seen


@pytest.fixture
def eventually() -> Callable[..., Any]:
    return _eventually


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
        return await _eventually(
            f"holds {keys}",
            lambda: self.last,
            lambda report: list(report.loaded) == sorted(keys) and revision in (None, report.revision),
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


@pytest.fixture
async def control_plane() -> AsyncIterator[ControlPlane]:
    double = ControlPlane()
    await double.start()
    yield double
    await double.stop()


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


def _arguments(control_plane: str, *more: str) -> list[str]:
    return [
        *("--cluster", "ml-cluster-1", "--replica", "ml-cluster-1-a"),
        *("--listen", "127.0.0.1:0", "--advertise", "127.0.0.1:0", "--control-plane", control_plane),
        *("--warm-up-ms", "0", *more),
    ]


@pytest.fixture
async def start_replica(control_plane: ControlPlane) -> AsyncIterator[StartReplica]:
    async with AsyncExitStack() as stack:

        async def start(*arguments: str) -> RunningReplica:
            replica = Replica(parse_options(_arguments(control_plane.address, *arguments)))
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
def rank_request() -> Callable[..., ranking_pb2.RankRequest]:
    def build(model: str = "", version: str = "", titles: int = 10, user: str = "u1") -> ranking_pb2.RankRequest:
        request = ranking_pb2.RankRequest(titles=[ranking_pb2.Title(id=f"t{number:02}") for number in range(titles)])
        request.envelope.context.user_id = user
        request.envelope.model_config.model = model
        request.envelope.model_config.version = version
        return request

    return build


@dataclass(frozen=True, slots=True)
class ReplicaProcess:
    """A replica in a process of its own."""

    process: subprocess.Popen[str]
    address: str
    log: Path


@pytest.fixture
def spawn_replica(tmp_path: Path) -> Iterator[Callable[..., ReplicaProcess]]:
    processes: list[subprocess.Popen[str]] = []

    def spawn(control_plane: str, *arguments: str) -> ReplicaProcess:
        log = tmp_path / f"replica-{len(processes)}.log"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "models.stub", *_arguments(control_plane, *arguments)],
                cwd=ROOT,
                stderr=stderr,
                text=True,
            )
        processes.append(process)
        give_up = time.monotonic() + WITHIN_S
        while not (found := re.search(r"serves at (\S+)", log.read_text())):
            if process.poll() is not None or time.monotonic() > give_up:
                raise DeadlineError(f"the replica does not serve; its log: {log.read_text()}")
            time.sleep(0.02)
        return ReplicaProcess(process, found[1], log)

    yield spawn
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
async def replica(control_plane: ControlPlane, start_replica: StartReplica) -> RunningReplica:
    started = await start_replica()
    control_plane.assign(7, "rows.v1", "rows.v2", "fraud.v1")
    await control_plane.holds("rows.v1", "rows.v2", "fraud.v1")
    return started
