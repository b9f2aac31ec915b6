"""A cluster that gets one replica more while requests flow to it by several ways at once."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from time import monotonic
from typing import TYPE_CHECKING, Any

import grpc.aio

from lab.bench.harness.balance_stats import AFTER_S, BEFORE_S, Answered, Round
from lab.bench.harness.fixed_rate_sender import send_on_time
from lab.errors import CallError, UnitError
from lab.runtime.state import LabState
from lab.topologies import open_client
from lab.transport import open_channel
from lab.waiting import eventually
from models.apis import APIS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from lab.bench.harness.environment import Setting
    from lab.bench.harness.vip import Replicas
    from lab.client import Client

REPLICAS = 2
"""Before one is added."""

INTERVALS_MS = (40, 80, 120, 160, 200)
"""Between two requests of each caller: the k-th sends 1/k of what the first does, as Zipf's law has it."""

USE_CASE, CLUSTER, MODEL, VERSION, CALLER = "UpNext", "ml-cluster-5", "up-next", "v1", "playback"

_KEY = f"{MODEL}.{VERSION}"
_API = APIS["ranking.v1"]
_TIMEOUT_S = 2.0
_PATIENCE = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class Side:
    """A lab whose cluster grows and shrinks.

    Attributes:
        replicas: what its VIPs are told.
        vips: way → address, of those in front of this cluster.
    """

    setting: Setting
    replicas: Replicas
    vips: Mapping[str, str]

    def add(self) -> tuple[str, float]:
        """Adds a replica, and tells all balancers once it can answer; returns its name, and when that was."""
        lab = self.setting.lab
        new = lab.units.scale(CLUSTER, REPLICAS + 1)[-1]

        def loaded() -> bool:
            known = lab.control_plane_status()
            return known is not None and any(each.replica == new and _KEY in each.loaded for each in known.replicas)

        eventually(f"{new} has loaded {_KEY}", loaded, within=_PATIENCE)
        self.replicas.write(self._addresses(new))
        return new, monotonic()

    def remove(self) -> None:
        """Takes it away again, first from the balancers."""
        self.replicas.write(self._addresses())
        self.setting.lab.units.scale(CLUSTER, REPLICAS)

    @property
    def names(self) -> list[str]:
        """The replicas that stay."""
        return [unit.name for unit in self.setting.state.plan.with_role("model") if unit.cluster == CLUSTER]

    def _addresses(self, *more: str) -> list[str]:
        layout = LabState.of(self.setting.lab.folder).plan
        return [layout.unit(name).address for name in (*self.names, *more)]


async def measure(
    sides: Sequence[Side], topologies: Iterable[str], rounds: int, say: Callable[[str], None]
) -> dict[str, list[Round]]:
    """Way → its rounds.

    Args:
        sides: labs that grow at the same time.
        topologies: of the first of them, which are ways as well.
        rounds: how many.
        say: told which round it is.

    Raises:
        UnitError: the wrong model answered.
    """
    endpoints = sides[0].setting.lab.endpoints().clients[CALLER]
    clients = {topology: open_client(topology, CALLER, endpoints) for topology in topologies}
    seen: dict[str, list[Round]] = {}
    draw = Random(0)  # noqa: S311 (no secret)
    try:
        await asyncio.gather(*(client.ready() for client in clients.values()))
        for number in range(1, rounds + 1):
            say(f"round {number} of {rounds}")
            for way, taken in (await _round(sides, clients, draw)).items():
                seen.setdefault(way, []).append(taken)
    finally:
        await asyncio.gather(*(client.close() for client in clients.values()))
    return seen


async def _round(sides: Sequence[Side], clients: Mapping[str, Client], draw: Random) -> dict[str, Round]:
    answers: dict[str, list[tuple[float, str]]] = {}
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        ways = {topology: [_over(client)] * len(INTERVALS_MS) for topology, client in clients.items()}
        for side in sides:
            for way, address in side.vips.items():
                ways[way] = await _connections(stack, address, draw)
        sending = [
            asyncio.create_task(
                send_on_time(
                    _recorder(send, answers.setdefault(way, [])),
                    every_ms=every_ms,
                    numbers=itertools.count(),
                    offset_ms=(7 * place + 3 * number) % every_ms,
                    stop=stop,
                )
            )
            for place, (way, sends) in enumerate(ways.items())
            for number, (send, every_ms) in enumerate(zip(sends, INTERVALS_MS, strict=True))
        ]
        began = monotonic()
        try:
            await asyncio.sleep(BEFORE_S)
            added = await asyncio.gather(*(asyncio.to_thread(side.add) for side in sides))
            await asyncio.sleep(max(at for _, at in added) + AFTER_S - monotonic())
        finally:
            stop.set()
            await asyncio.gather(*sending)
    await asyncio.gather(*(asyncio.to_thread(side.remove) for side in sides))
    taken = {}
    for side, (new, at) in zip(sides, added, strict=True):
        for way in (*side.vips, *(clients if side is sides[0] else ())):
            answered = [Answered(sent - at, replica) for sent, replica in answers[way]]
            taken[way] = Round(answered, began - at, side.names, new)
    return taken


def _recorder(send: Callable[[], Awaitable[str]], answers: list[tuple[float, str]]) -> Callable[[int], Awaitable[None]]:
    async def one(_due_ns: int) -> None:
        sent = monotonic()
        try:
            replica = await send()
        except (grpc.aio.AioRpcError, CallError):
            replica = ""
        answers.append((sent, replica))

    return one


def _over(client: Client) -> Callable[[], Awaitable[str]]:
    request = _API.build_request(400)

    async def send() -> str:
        return _replica((await client.call(USE_CASE, request, {"user_id": "u1"})).response)

    return send


def _replica(response: Any) -> str:
    by = response.answered_by
    if (by.model, by.version) != (MODEL, VERSION):
        raise UnitError(f"{by.replica} answered as {by.model}@{by.version}, not as {MODEL}@{VERSION}")
    return str(by.replica)


async def _connections(stack: AsyncExitStack, address: str, draw: Random) -> list[Callable[[], Awaitable[str]]]:
    """A connection for each caller, opened one after the other in an order drawn anew."""
    request = _API.build_request(400)
    request.envelope.model_config.model, request.envelope.model_config.version = MODEL, VERSION
    payload = request.SerializeToString()

    async def connected() -> Callable[[], Awaitable[str]]:
        channel = await stack.enter_async_context(open_channel(address, own_connection=True))
        rpc: grpc.aio.UnaryUnaryMultiCallable[bytes, Any] = channel.unary_unary(
            _API.unary.path, response_deserializer=_API.unary.response_class.FromString
        )

        async def send() -> str:
            return _replica(await rpc(payload, timeout=_TIMEOUT_S))

        await send()
        return send

    senders = [await connected() for _ in INTERVALS_MS]
    draw.shuffle(senders)
    return senders
