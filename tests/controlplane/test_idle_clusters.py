"""Clusters come to a real Envoy and leave it when nobody uses them, and no request notices."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.service.discovery.v3 import discovery_pb2

from lab.routing.keys import COPY_HEADER, HEADER, SHADOW_HEADER
from services.controlplane.nodes.subscribers import Subscriber
from services.controlplane.xds.delta import DeltaStream
from services.controlplane.xds.idle_clusters import IdleClusters
from services.controlplane.xds.names import NAME, is_name_of, key_of, name_list, name_of, number_of, numbers_in
from services.controlplane.xds.resources import CLUSTER, EXTENSION, endpoint_set_name
from services.controlplane.xds.store import ResourceStore
from tests.envoys import Envoy, envoy_up
from tests.parts import ControlPlane
from tests.raw_calls import server_stream, unary
from tests.waiting import eventually

IDLE_S = 0.4
KEYS = tuple(f"m{number}.v1" for number in range(12))
ONCE, STREAM, OFTEN = "/echo/Once", "/echo/Stream", 0.05


class _Echo(grpc.GenericRpcHandler):
    """Answers with the routing key that it was sent; a stream does so until its test has seen enough."""

    def __init__(self) -> None:
        self.enough = asyncio.Event()
        self.headers: set[str] = set()
        self.copies_of: Counter[str] = Counter()

    def service(self, details: Any) -> grpc.RpcMethodHandler[bytes, bytes]:
        headers = dict(details.invocation_metadata)
        self.headers |= headers.keys()
        if COPY_HEADER in headers:
            self.copies_of[headers[HEADER]] += 1
        if details.method == ONCE:
            return grpc.unary_unary_rpc_method_handler(self._once)
        return grpc.unary_stream_rpc_method_handler(self._stream)

    async def _once(self, request: bytes, context: Any) -> bytes:
        return request + str(dict(context.invocation_metadata())[HEADER]).encode()

    async def _stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield await self._once(request, context)
        await self.enough.wait()
        yield b"last"


class Place:
    """A control plane, one Envoy and one model that serves all keys."""

    def __init__(self, control_plane: ControlPlane, up: AsyncExitStack, envoy: Envoy, model: _Echo) -> None:
        self.control_plane, self.envoy, self.model = control_plane, envoy, model
        self._up = up

    def by(self, channel: grpc.aio.Channel) -> Place:
        self._once, self._stream = unary(channel, ONCE), server_stream(channel, STREAM)
        return self

    async def lose(self) -> None:
        """Ends the control plane."""
        await self._up.aclose()

    async def restart(self) -> None:
        await self.lose()
        await self._up.enter_async_context(self.control_plane.up())

    async def ask(self, key: str, *headers: tuple[str, str]) -> None:
        answer = await self._once(b">", metadata=((HEADER, key), *headers), timeout=5, wait_for_ready=True)
        assert f">{key}".encode() == answer

    def stream(self, key: str) -> Any:
        return self._stream(b">", metadata=((HEADER, key),), timeout=60, wait_for_ready=True)

    async def keep_asking(self, key: str, every_s: float, until: asyncio.Event) -> list[float]:
        """Returns when each was answered."""
        answered_at = []
        while not until.is_set():
            await self.ask(key)
            answered_at.append(time.monotonic())
            await asyncio.sleep(every_s)
        return answered_at

    async def holds(self, *names: str) -> None:
        await eventually("Envoy's clusters", self.envoy.discovered, until=lambda seen: seen == sorted(names))

    def left(self) -> int:
        return sum(each.clusters_left for each in self.control_plane.store.subscribers)

    def added(self) -> int:
        return self.envoy.stats("cluster_manager.cluster_added")["cluster_manager.cluster_added"]

    def held(self) -> int:
        return sum(each.clusters for each in self.control_plane.store.subscribers)


@asynccontextmanager
async def place(folder: Path, idle_s: float, *, unasked: int = 0) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        model, server = _Echo(), grpc.aio.server()
        server.add_generic_rpc_handlers((model,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        stack.push_async_callback(server.stop, 0)
        control_plane = ControlPlane()
        control_plane.clusters_idle_after_s, control_plane.clusters_unasked = idle_s, unasked
        control_plane.store.update(
            clusters=dict.fromkeys(KEYS, "there"),
            endpoint_sets={endpoint_set_name("there", key): [f"127.0.0.1:{port}"] for key in KEYS},
        )
        up = await stack.enter_async_context(AsyncExitStack())
        await up.enter_async_context(control_plane.up())
        envoy = await stack.enter_async_context(envoy_up(control_plane.address, folder))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(envoy.address))
        yield Place(control_plane, up, envoy, model).by(channel)


async def test_an_idle_cluster_leaves_and_the_next_request_finds_it_again(tmp_path: Path) -> None:
    async with place(tmp_path, IDLE_S) as lab:
        before = lab.added()
        for left in (1, 2, 3):
            await lab.ask(KEYS[0])
            await lab.holds()
            assert (left, before + left) == (lab.left(), lab.added())

        assert "x-cluster" not in lab.model.headers
        assert lab.held() == 0


async def test_a_cluster_in_use_stays_and_one_with_a_stream_under_way_does(tmp_path: Path) -> None:
    async with place(tmp_path, IDLE_S) as lab:
        used, streamed, idle = KEYS[:3]
        stream = lab.stream(streamed)
        assert f">{streamed}".encode() == await stream.read()
        over = asyncio.Event()
        asking = asyncio.create_task(lab.keep_asking(used, OFTEN, over))
        await lab.ask(idle)
        for left in (1, 2, 3):
            await eventually("the idle one has left", lab.left, until=left.__eq__)
            await lab.ask(idle)

        held = lab.envoy.discovered()
        over.set()
        answered_at = await asking
        assert streamed in held
        # On a machine that was too busy to ask often enough, it may have left.
        longest_s = max(after - before for before, after in pairwise(answered_at))
        assert used in held or longest_s > IDLE_S / 2
        lab.model.enough.set()
        assert await stream.read() == b"last"
        assert grpc.aio.EOF is await stream.read()
        await lab.holds()


async def test_which_cluster_is_asked_for_is_no_clients_business(tmp_path: Path) -> None:
    async with place(tmp_path, 0.0) as lab:
        await lab.ask(KEYS[0], ("x-cluster", KEYS[1]), ("x-cluster", "xds"))

        assert lab.envoy.discovered() == [KEYS[0]]


async def test_a_copy_finds_the_cluster_of_its_shadow_again(tmp_path: Path) -> None:
    async with place(tmp_path, IDLE_S) as lab:
        main, shadow = KEYS[:2]
        await lab.ask(shadow)
        await lab.holds()
        for copies in (1, 2):
            await lab.ask(main, (SHADOW_HEADER, shadow))
            await eventually("a copy has come", lambda: lab.model.copies_of[shadow], until=copies.__eq__)
            await lab.holds()

        assert lab.model.copies_of == {shadow: 2}


async def test_no_request_fails_while_clusters_come_and_go(tmp_path: Path) -> None:
    async with place(tmp_path, IDLE_S) as lab:
        over = asyncio.Event()
        # About as often as a cluster is let go, each at its own time: some requests race with every step.
        asking = [
            asyncio.create_task(lab.keep_asking(key, IDLE_S + 0.07 * number, over)) for number, key in enumerate(KEYS)
        ]
        await eventually("clusters have left", lab.left, until=lambda left: left >= 40)
        over.set()

        assert sum(map(len, await asyncio.gather(*asking))) > 40


async def test_a_key_that_was_not_used_before_is_answered_while_there_is_no_control_plane(tmp_path: Path) -> None:
    async with place(tmp_path, IDLE_S, unasked=len(KEYS)) as lab:
        await lab.holds(*KEYS)
        await lab.lose()
        for key in KEYS:
            await lab.ask(key)


async def test_a_control_plane_that_comes_back_brings_its_changes_to_clusters_sent_unasked(tmp_path: Path) -> None:
    async with place(tmp_path, 0.0, unasked=len(KEYS) + 1) as lab:
        await lab.holds(*KEYS)
        lab.control_plane.store.update(clusters={"new.v1": "there"}, removed_clusters=[KEYS[0]])
        await lab.restart()
        await lab.holds(*KEYS, "new.v1")
        await lab.ask(KEYS[1])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await lab.ask(KEYS[0])

        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_control_plane_that_comes_back_brings_nothing_back_that_has_left(tmp_path: Path) -> None:
    async with place(tmp_path, IDLE_S) as lab:
        gone, came_back = KEYS[:2]
        await lab.ask(gone)
        await lab.ask(came_back)
        await lab.holds()
        lab.control_plane.clusters_idle_after_s = 0.0  # of the next
        await lab.ask(came_back)
        await lab.restart()
        await lab.ask(came_back)
        await eventually("Envoy is back", lambda: len(lab.control_plane.store.subscribers), until=bool)
        await lab.ask(KEYS[2])

        assert set(map(key_of, lab.envoy.discovered())) == {came_back, KEYS[2]}
        await lab.ask(gone)
        assert f"{gone}~1" in lab.envoy.discovered()


def test_a_node_that_returns_with_an_old_name_keeps_only_the_one_in_use() -> None:
    now, old, used = [0.0], KEYS[0], f"{KEYS[0]}~3"
    store = ResourceStore()
    store.update(clusters={KEYS[0]: "there"}, endpoint_sets={endpoint_set_name("there", KEYS[0]): ["127.0.0.1:1"]})
    stream = DeltaStream(store, Subscriber("x", "sidecar"), idle=IdleClusters(1.0, now_s=lambda: now[0]))
    held = {old: "a version", used: "a version"}
    stream.receive(
        discovery_pb2.DeltaDiscoveryRequest(
            type_url=CLUSTER, resource_names_subscribe=[*held, f"{old}~1", 'no"key~9'], initial_resource_versions=held
        )
    )
    stream.receive(discovery_pb2.DeltaDiscoveryRequest(type_url=EXTENSION, resource_names_subscribe=[NAME]))
    sent = {each.name: each.version for response in stream.responses() for each in response.resources}
    assert sent.keys() == {old, used, NAME}
    assert sent[NAME] == f"names {used}"

    stream.receive(discovery_pb2.DeltaDiscoveryRequest(type_url=EXTENSION, response_nonce="2"))
    for _ in range(2):
        now[0] += 2.0
        stream.reported({old: False, used: True})

    [response] = stream.responses()
    assert list(response.removed_resources) == [old]


def test_a_used_cluster_stays_and_an_idle_one_leaves_after_two_quiet_reports() -> None:
    now = [0.0]
    idle = IdleClusters(10.0, now_s=lambda: now[0])

    def report(at_s: float, *, named: bool = True, **used: bool) -> tuple[list[str], list[str]]:
        now[0] = at_s
        return idle.reported(used, used, named=named)

    assert report(0, a=False, b=False) == ([], [])
    assert report(9, a=False, b=True) == ([], [])
    assert report(11, a=False, b=False) == (["a"], [])
    idle.mark_leaving("a")
    assert report(12, a=False, b=False, named=False) == ([], [])
    assert report(13, a=False, b=False) == ([], [])
    assert report(14, a=True, b=False) == ([], [])
    assert report(15, a=False, b=False) == ([], [])
    assert report(16, a=False, b=False) == ([], ["a"])
    idle.forget("a")
    assert report(19, b=False) == (["b"], [])
    assert IdleClusters(0.0, now_s=lambda: 1e9).reported({"c": False}, ["c"], named=True) == ([], [])


@pytest.mark.parametrize(("number", "name"), [(0, "a.v1"), (1, "a.v1~1"), (12, "a.v1~12")])
def test_names_are_numbered(number: int, name: str) -> None:
    assert name_of("a.v1", number) == name
    assert ("a.v1", number) == (key_of(name), number_of(name))
    assert is_name_of(name, "a.v1")
    assert not is_name_of("a.v1~0", "a.v1")
    assert not is_name_of("a.v1~x", "a.v1")


def test_the_version_of_a_list_of_names_holds_its_entries() -> None:
    numbers = {"b.v1": 3, "a.v2": 1}

    assert numbers_in(name_list(numbers).version) == numbers
    assert {} == numbers_in(name_list({}).version) == numbers_in("")
    assert name_list(numbers) == name_list(dict(reversed(numbers.items())))
