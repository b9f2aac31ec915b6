"""No client ends a unit, or keeps it from others, by what it sends: the worst floods, against a unit's servers."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lab.transport import accepted, memory_guard
from lab.transport.accepted import Accepted
from lab.transport.memory_guard import GROWTH_BYTES, Growth, Held, MemoryGuard, Normal, Recovery
from tests.transport.floods import GRPC, REST, SHORT, Flood, damage_by

MB = 2**20


@dataclass(frozen=True, slots=True)
class Flooded:
    pid: int
    doors: dict[str, str]
    health: health_pb2_grpc.HealthStub

    def answers(self) -> bool:
        try:
            return bool(self.health.Check(health_pb2.HealthCheckRequest(), timeout=5, wait_for_ready=True))
        except grpc.RpcError:
            return False


@pytest.fixture(scope="module")
def flooded() -> Iterator[Flooded]:
    command = [sys.executable, "-m", "tests.transport.flooded"]
    env = {**os.environ, "MALLOC_ARENA_MAX": "2"}  # as the runtimes set it
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        try:
            assert process.stdout is not None
            doors = [f"127.0.0.1:{port}" for port in process.stdout.readline().split()]
            with grpc.insecure_channel(doors[0]) as channel:
                unit = Flooded(
                    process.pid, dict(zip((GRPC, REST), doors, strict=True)), health_pb2_grpc.HealthStub(channel)
                )
                assert unit.answers()
                urllib.request.urlopen(f"http://{doors[1]}/", timeout=10).close()  # the library is imported now
                yield unit
        finally:
            process.terminate()


@pytest.mark.parametrize("flood", SHORT, ids=lambda flood: flood.name)
def test_a_flood_takes_little_memory_and_others_are_answered(flooded: Flooded, flood: Flood) -> None:
    damage = damage_by(flood, flooded.doors[flood.door], flooded.pid, flooded.answers)

    assert damage.fatal() == "", damage


@pytest.mark.parametrize(
    ("growth", "resident", "received", "culprits"),
    [
        (48, 100, {1: MB // 2, 2: MB // 100}, [1]),  # one that sent little, which became much
        (48, 100, {1: MB // 2, 2: MB // 2}, [1, 2]),
        (48, 100, {1: 20 * MB}, []),  # messages: as large as what they became
        (48, 100, {1: 2 * MB}, []),  # requests that wait
        (20, 100, {1: MB // 2}, []),  # too little to look at
        (48, 100, {1: 1_000}, []),  # nobody sent enough to be the reason
        (300, 800, {1: 300 * MB, 2: MB}, [1]),  # near the limit, whatever the proportion
        (48, 100, {}, []),
        (48, 100, {-1: MB // 3, 2: MB // 2}, [-1]),  # a new one before those that have been there
        (48, 100, {-1: MB // 100, 2: MB // 2}, [2]),
        (48, 100, dict.fromkeys(range(20), 30_000), [*range(20)]),  # each too little alone
    ],
)
def test_who_is_cut(growth: int, resident: int, received: dict[int, int], culprits: list[int]) -> None:
    assert GROWTH_BYTES <= 48 * MB
    assert (
        culprits
        == Growth(growth * MB, resident * MB, 1024 * MB, received, {each for each in received if each < 0}).culprits()
    )


def test_who_has_sent_what_nobody_has_read_yet_is_cut_too() -> None:
    unread = {2: MB // 4, 3: MB // 100}

    assert Growth(48 * MB, 100 * MB, 0, {1: MB // 2, 2: 0, 3: 0}, unread=unread).culprits() == [1, 2]
    assert Growth(48 * MB, 100 * MB, 0, {1: MB // 2, 2: 0, 3: 0}, {2, 3}, unread).culprits() == [2]


def test_after_a_cut_nothing_more_comes_in_until_memory_is_back() -> None:
    """First from who may be the reason, then from anybody; and never for ever, whatever memory does."""
    recovery = Recovery()
    assert not recovery.look(200 * MB, 0.0)
    recovery.was_cut(50 * MB, {1: 0, 2: 0}, 1.0)
    looked = []
    for resident, at_s in ((70, 1.0), (95, 1.1), (85, 1.2), (115, 1.4), (95, 1.5), (75, 1.6), (115, 1.8)):
        recovery.look(resident * MB, at_s)
        looked.append(recovery.held)
    assert looked == [Held.NOBODY, Held.SOME, Held.SOME, Held.ALL, Held.SOME, Held.NOBODY, Held.ALL]

    looked = []
    for resident, at_s in ((112, 2.4), (95, 11.9), (200, 12.5)):
        recovery.look(resident * MB, at_s)
        looked.append(recovery.held)
    assert looked == [Held.SOME, Held.NOBODY, Held.NOBODY]


def test_nobody_is_held_for_memory_that_stays() -> None:
    """It is of requests that wait, say, and what comes on top of it counts from there."""
    recovery = Recovery()
    recovery.was_cut(50 * MB, {1: 0, 2: 0}, 1.0)
    looked = []
    for resident, at_s in ((105, 1.1), (103, 1.5), (103, 1.9), (103, 2.1), (130, 2.2), (145, 2.3)):
        recovery.look(resident * MB, at_s)
        looked.append(recovery.held)
    assert looked == [Held.SOME, Held.SOME, Held.SOME, Held.NOBODY, Held.NOBODY, Held.SOME]


def test_connections_that_sent_little_are_not_held_at_first() -> None:
    recovery = Recovery()
    recovery.was_cut(50 * MB, {1: 10 * MB, 2: 0}, 1.0)
    connections = {1: Accepted(7, 10 * MB + 1_000, 0), 2: Accepted(8, 0, MB), 3: Accepted(9, 9_000, 9_000)}
    connections[4] = Accepted(10, 1_000, 0)

    recovery.look(95 * MB, 1.1)
    assert recovery.spared(connections) == [1, 4]
    recovery.look(115 * MB, 1.4)
    assert recovery.spared(connections) == []


def test_what_is_held_goes_on_afterwards_and_what_is_spared_all_the_time() -> None:
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def connected() -> tuple[socket.socket, socket.socket]:
            client = stack.enter_context(socket.create_connection(server.getsockname(), timeout=10))
            accepting = stack.enter_context(server.accept()[0])
            accepting.settimeout(10)
            return client, accepting

        (client, held), (other, spared) = connected(), connected()
        try:
            accepted.hold([accepted.number_of(spared.fileno())])
            late = stack.enter_context(socket.socket())
            late.settimeout(0.1)
            with pytest.raises(TimeoutError):
                late.connect(server.getsockname())
            for each in (other, client):
                each.sendall(b"data")
            assert spared.recv(9) == b"data"
            held.sendall(b"answer")
            assert client.recv(9) == b"answer"
            held.settimeout(0.0)
            with pytest.raises(BlockingIOError):
                held.recv(9)
        finally:
            accepted.release()
        held.settimeout(10)
        assert held.recv(9) == b"data"
        connected()


def test_what_a_process_can_give_back_never_counts_as_normal_and_what_it_cannot_does() -> None:
    normal = Normal()
    assert not normal.is_exceeded(50 * MB)
    for _ in range(10):  # each flood comes as soon as the one before has been given back
        assert normal.is_exceeded(66 * MB)
        normal.gave_back(51 * MB)
    assert normal.least == 50 * MB

    for _ in range(3):
        assert normal.is_exceeded(60 * MB)
        normal.gave_back(60 * MB)
    assert not normal.is_exceeded(60 * MB)
    assert normal.is_exceeded(66 * MB)


@pytest.mark.parametrize(("is_block", "cuts"), [(True, []), (False, [3])])
async def test_a_large_table_that_stays_cuts_nobody_later(
    *, is_block: bool, cuts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a publish made is no growth any more a moment later; what anybody's large message made still is."""
    cut: list[int] = []

    def note(descriptor: int) -> str:
        cut.append(descriptor)
        return "a peer"

    received = count(MB, MB)  # more at each look
    monkeypatch.setattr(accepted, "open_connections", lambda: {7: Accepted(3, next(received), 0)})
    monkeypatch.setattr(accepted, "cut", note)
    monkeypatch.setattr(sys, "setswitchinterval", lambda _: None)
    guard, began = MemoryGuard(asyncio.get_running_loop()), time.monotonic()
    guard._look(60 * MB, began)
    if is_block:
        with memory_guard.expecting_growth(memory_guard.LARGE_BYTES):
            guard._look(168 * MB, began + 0.1)
    else:
        memory_guard.expect_growth(memory_guard.LARGE_BYTES)
        guard._look(168 * MB, began + 0.1)
    assert cut == []
    for at_s in (1.5, 1.6, 1.7):  # and a little more
        guard._look((169 + round(10 * at_s)) * MB, began + at_s)
    assert cut[:1] == cuts
