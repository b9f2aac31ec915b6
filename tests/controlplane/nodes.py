"""A real control plane on its own port, and nodes that play their parts over real gRPC."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from lab.client.admin import AdminClient
from lab.routing.document import RouteTable
from lab.routing.edits import sharing
from lab.transport import listen, new_server, open_channel
from models.proto.control.v1 import replicas_pb2, replicas_pb2_grpc, rules_pb2, rules_pb2_grpc
from services.controlplane.api.server import add_apis
from services.controlplane.nodes.admission import Admission
from services.controlplane.publishing.publisher import Publisher, Timeouts
from services.controlplane.registry.records import Event, StoredRevision
from services.controlplane.registry.revisions import Registry
from tests.waiting import eventually

T = TypeVar("T")


def table_of(placement: dict[str, str], default: str = "cw-ranker@v1") -> RouteTable:
    """A route table with one use case; ``placement`` is version → cluster."""
    return RouteTable.from_document(
        {
            "use_cases": {
                "ContinueWatchingRanking": {
                    "callers": ["homepage"],
                    "api": "ranking.v1",
                    "timeout": "50ms",
                    "default": default,
                }
            },
            "models": {"cw-ranker": {"versions": {v: {"cluster": c} for v, c in placement.items()}}},
            "clusters": {cluster: {"replicas": 1} for cluster in set(placement.values())},
        }
    )


class _Node:
    """One that does its part until it leaves without a word."""

    def __init__(self, address: str) -> None:
        self.is_deaf = False
        self._address = address
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        raise NotImplementedError

    async def leave(self) -> None:
        """Ends without a word."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class Replica(_Node):
    """A model replica that loads what it is assigned, or refuses, or says nothing."""

    def __init__(self, address: str, cluster: str, name: str) -> None:
        self.state = replicas_pb2.ReplicaReport(cluster=cluster, replica=name, address=f"198.18.0.1:{len(name)}")
        self.refuses: set[str] = set()
        self.granted: dict[str, list[str]] = {}
        self.suspended: set[str] = set()
        self.on_assignment: Callable[[], None] = lambda: None
        self.stops_beating = False
        self._writing = asyncio.Lock()  # a stream takes one message at a time
        super().__init__(address)

    async def _run(self) -> None:
        async with open_channel(self._address) as channel:
            call = replicas_pb2_grpc.ReplicasStub(channel).Register()
            await self._report(call)
            beats = asyncio.create_task(self._beat(call))
            try:
                async for assignment in call:
                    if not self.is_deaf:
                        self._load(assignment)
                        await self._report(call)
            finally:
                beats.cancel()

    async def _beat(self, call: Any) -> None:
        while True:
            await asyncio.sleep(0.2)
            if not self.stops_beating:
                await self._report(call)

    async def _report(self, call: Any) -> None:
        async with self._writing:
            await call.write(self.state)

    def _load(self, assignment: replicas_pb2.Assignment) -> None:
        wanted = {version.routing_key for version in assignment.versions}
        self.granted = {version.routing_key: list(version.callers) for version in assignment.versions}
        self.on_assignment()
        self.state.revision = assignment.revision
        self.suspended = {*assignment.suspension.callers, *assignment.suspension.gateways}
        self.state.suspension = assignment.suspension.number
        self.state.loaded[:] = sorted(wanted - self.refuses)
        del self.state.failures[:]
        for key in sorted(wanted & self.refuses):
            self.state.failures.add(routing_key=key, reason="out of memory")


class Follower(_Node):
    """A resolver or gateway that applies what it is sent, or refuses, or says nothing."""

    def __init__(self, address: str, node: str, *, with_endpoints: bool = False, revision: int = 0) -> None:
        self.updates: list[rules_pb2.RulesUpdate] = []
        self.refuses = ""
        self._hello = rules_pb2.SubscribeRequest(
            node=node,
            role="gateway" if with_endpoints else "resolver",
            with_endpoints=with_endpoints,
            revision=revision,
        )
        super().__init__(address)

    async def _run(self) -> None:
        async with open_channel(self._address) as channel:
            call = rules_pb2_grpc.RulesStub(channel).Subscribe()
            await call.write(self._hello)
            async for update in call:
                self.updates.append(update)
                if not self.is_deaf:
                    await call.write(
                        rules_pb2.SubscribeRequest(
                            applied_sequence=update.sequence, error="" if update.full else self.refuses
                        )
                    )


class ControlPlane:
    """The real one, in this process."""

    def __init__(self, publisher: Publisher, address: str) -> None:
        self.publisher = publisher
        self.address = address
        self._nodes: list[Replica | Follower] = []

    def stored(self, revision: int) -> StoredRevision:
        """What the registry has of a revision that must be there."""
        found = self.publisher.registry.get(revision)
        assert found is not None
        return found

    async def replica(self, cluster: str, name: str) -> Replica:
        replica = Replica(self.address, cluster, name)
        self._nodes.append(replica)
        await eventually(
            f"{name} is registered",
            lambda: any(member.replica == name for member in self.publisher.fleet.membership.members),
        )
        return replica

    async def follower(self, node: str, *, with_endpoints: bool = False, revision: int = 0) -> Follower:
        """A node that comes with this revision; a control plane that has none sends it nothing."""
        follower = Follower(self.address, node, with_endpoints=with_endpoints, revision=revision)
        self._nodes.append(follower)
        subscribers = self.publisher.fleet.feed.subscribers
        await eventually(f"{node} is connected", lambda: node in {each.node for each in subscribers})
        if self.publisher.revision or not revision:
            await eventually(f"{node} has its first state", lambda: bool(follower.updates))
        return follower

    async def publish(self, new: RouteTable, *, expected_revision: int = 0, **options: Any) -> list[Event]:
        events: list[Event] = []
        await self.publisher.publish(
            lambda before: sharing(new, before),
            author="ada",
            comment="",
            expected_revision=expected_revision,
            progress=lambda _, event: events.append(event),
            **options,
        )
        return events

    async def admin(self, ask: Callable[[AdminClient], T]) -> T:
        """What it answers an admin client, which blocks."""

        def run() -> T:
            with AdminClient(self.address) as client:
                return ask(client)

        return await asyncio.to_thread(run)

    async def dismiss(self) -> None:
        for node in self._nodes:
            await node.leave()


def failed_start(registry: str, *prefix: str) -> str:
    """The one line by which a control plane says why it does not start."""
    argv = [*prefix, sys.executable, "-m", "services.controlplane", "--listen", "127.0.0.1:0", "--registry", registry]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert (ended.returncode, ended.stdout) == (1, ""), ended.stderr
    [line] = ended.stderr.splitlines()
    return line


@asynccontextmanager
async def running(
    registry: Registry, timeouts: Timeouts, name: str = "", admission: Admission | None = None
) -> AsyncIterator[ControlPlane]:
    publisher = Publisher(registry, timeouts, name)
    publisher.restore()
    server, _ = new_server()
    add_apis(server, publisher, admission=admission)
    address = f"127.0.0.1:{listen(server, '127.0.0.1:0')}"
    await server.start()
    reaper = asyncio.create_task(publisher.fleet.membership.reap())
    control_plane = ControlPlane(publisher, address)
    try:
        yield control_plane
    finally:
        publisher.fleet.freeze()
        reaper.cancel()
        await control_plane.dismiss()
        await server.stop(grace=0)
        await publisher.cancel_background()
