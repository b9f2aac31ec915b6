"""Kills the control plane at steps of a publish, and looks at what is left: ``python -m tests.controlplane.kill9``.

After each death another control plane takes over the same registry, so every publish begins with what the death before
has left.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from lab.transport import open_channel
from models.proto.control.v1 import admin_pb2, admin_pb2_grpc
from services.controlplane.registry.records import Phase
from services.controlplane.registry.revisions import Registry
from tests.controlplane.nodes import Follower, Replica, table_of
from tests.tools import run_tool
from tests.waiting import eventually

POINTS = 200
_WITHIN_S = 20.0
_LATE_S = 2.0


@dataclass(slots=True)
class Toll:
    """What all deaths together have left.

    Attributes:
        steps: of a publish that nobody disturbs, its retirement included.
        deaths: how many were killed at a step of a publish.
        attempts: comment of a publish → the route table that it was for, in order.
        stored: revision → comment, of those that were acknowledged.
        converged: the latest that was acknowledged to be in force.
        reached: the last phase that each of the dead acknowledged → how many.
    """

    steps: int = 0
    deaths: int = 0
    attempts: dict[str, dict[str, Any]] = field(default_factory=dict)
    stored: dict[int, str] = field(default_factory=dict)
    converged: int = 0
    reached: dict[str, int] = field(default_factory=dict)

    def judge(self, store: str) -> None:
        """Holds the registry against what was acknowledged.

        Raises:
            AssertionError: something is lost, doubled, out of order or made up.
        """
        with closing(Registry(store)) as registry:
            revisions = registry.all()
            numbers = [each.revision for each in revisions]
            assert numbers == list(range(1, len(revisions) + 1)), numbers
            comments = {each.revision: each.comment for each in revisions}
            lost = {number: comment for number, comment in self.stored.items() if comments.get(number) != comment}
            assert not lost, f"acknowledged, and lost: {lost}"
            in_order = [each for each in self.attempts if each in comments.values()]
            assert in_order == list(comments.values()), "no publish left two revisions, and none overtook another"
            in_flight = comments.keys() - self.stored.keys()
            assert len(in_flight) <= 1 or max(self.stored, default=0) < min(in_flight), in_flight
            assert registry.in_force() in {self.converged, max(numbers, default=0)}
            if numbers:
                latest = numbers[-1]
                assert registry.document(latest) == self.attempts[comments[latest]]
            # What is there is there to stay: from now on it counts as acknowledged.
            self.stored = comments
            self.converged = registry.in_force()


@asynccontextmanager
async def mortals(folder: Path, registry: str) -> AsyncIterator[asyncio.subprocess.Process]:
    argv = ["-m", "tests.controlplane.mortal", registry]
    pipe = asyncio.subprocess.PIPE
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(sys.executable, *argv, stdin=pipe, stdout=pipe, stderr=log)
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


async def kill_at_steps(points: int, folder: Path, registry: str = "") -> Toll:
    """Has as many control planes die, at steps that are spread over a publish.

    Args:
        points: how many.
        folder: for their sockets and log.
        registry: their store; a file in that folder by default.

    Raises:
        AssertionError: see :meth:`Toll.judge`.
    """
    toll, registry = Toll(), registry or str(folder / "registry.sqlite")
    async with mortals(folder, registry) as process:
        toll.steps = await _live(process, folder, toll, 0)
        for number in range(points):
            await _live(process, folder, toll, 1 + number * toll.steps // points)
            toll.judge(registry)
    return toll


async def _live(process: asyncio.subprocess.Process, folder: Path, toll: Toll, step: int) -> int:
    """One life, with one publish in it; returns its steps."""
    socket = folder / f"{len(toll.attempts)}.socket"
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{socket} {step}\n".encode())
    pid = int(await process.stdout.readline())
    ended = asyncio.create_task(process.stdout.readline())
    address = f"unix:{socket}"
    nodes: list[Replica | Follower] = []
    try:
        async with asyncio.timeout(_WITHIN_S), open_channel(address) as channel:
            await eventually("it listens", socket.exists)
            admin = admin_pb2_grpc.AdminStub(channel)
            await admin.GetStatus(admin_pb2.GetStatusRequest(), wait_for_ready=True)
            nodes += [Replica(address, "ml-cluster-1", "a"), Replica(address, "ml-cluster-2", "bb")]
            nodes += [Follower(address, "homepage-resolver"), Follower(address, "gateway-1", with_endpoints=True)]
            await eventually("all are there", partial(_present, admin), until=(2, 2).__eq__)
            reached = await _publish(admin, toll)
        if step == 0:
            await asyncio.sleep(0.2)  # until what was replaced is retired
            os.kill(pid, signal.SIGTERM)
        done, _ = await asyncio.wait([ended], timeout=_LATE_S)
    finally:
        if not ended.done():
            os.kill(pid, signal.SIGKILL)
        killed_by, steps = map(int, (await ended).split())
        for node in nodes:
            await node.leave()
    if step and done:
        assert killed_by == signal.SIGKILL, f"step {step}: ended by {killed_by}; see {folder / 'log'}"
        toll.deaths += 1
        toll.reached[reached] = toll.reached.get(reached, 0) + 1
    return steps


async def _present(admin: Any) -> tuple[int, int]:
    """How many replicas and nodes there are."""
    status = await admin.GetStatus(admin_pb2.GetStatusRequest())
    return len(status.replicas), len(status.nodes)


async def _publish(admin: Any, toll: Toll) -> str:
    """Publishes, and notes what is acknowledged; returns the last phase of that."""
    comment = f"attempt {len(toll.attempts)}"
    document = table_of({"v1": f"ml-cluster-{1 + len(toll.attempts) % 2}"}).document
    toll.attempts[comment] = document
    source = admin_pb2.SourceFile(name="routes.yaml", text=json.dumps(document))
    request = admin_pb2.PublishRequest(author="ada", comment=comment, sources=[source])
    reached = "nothing"
    try:
        async for progress in admin.Publish(request):
            if progress.HasField("waiting"):
                continue
            toll.stored[progress.revision] = comment
            reached = admin_pb2.Phase.Name(progress.phase).removeprefix("PHASE_").lower()
            if reached == Phase.CONVERGED:
                toll.converged = progress.revision
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.UNAVAILABLE, error  # noqa: PT017 (it may well not fail)
    return reached


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.controlplane.kill9", description=__doc__)
    parser.add_argument("--points", type=int, default=POINTS, help="how many to kill (%(default)s)")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        toll = asyncio.run(kill_at_steps(chosen.points, Path(name)))
    where = ", ".join(f"{count} after {phase}" for phase, count in toll.reached.items())
    print(  # noqa: T201 (a command)
        f"{toll.deaths} of {chosen.points} killed at one of the {toll.steps:,} steps of a publish ({where}): "
        f"{len(toll.stored)} revisions stored, 0 acknowledged ones lost"
    )
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
