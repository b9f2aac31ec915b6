"""Adds a replica to a cluster while requests reach it by several paths, and measures how evenly these spread them."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from time import monotonic
from typing import TYPE_CHECKING, Any

import grpc.aio

from lab.errors import CallError, UnitError
from lab.plugins.bench.harness.senders import all_ready, send_at_fixed_rate
from lab.plugins.bench.harness.trials import Trials
from lab.plugins.bench.harness.variant import API, CALLER, CLUSTER, MODEL, REPLICAS, USE_CASE, VERSION
from lab.topologies import open_client
from lab.transport import open_channel
from lab.waiting import eventually
from models.apis import APIS

if TYPE_CHECKING:
    from lab.client import Client
    from lab.plugins.bench.harness.environment import Environment
    from lab.plugins.bench.harness.vip import ReplicasFile

BEFORE_S, AFTER_S, SETTLED_S = 0.8, 2.4, 1.2
"""Requests count for so long before a replica is added, until so long after, and from when its share has settled."""

_NOTHING = "no request was answered while replicas were counted, so nothing was measured: is this machine too busy?"

INTERVALS_MS = (40, 80, 120, 160, 200)
"""Between two requests of each caller: the k-th sends 1/k as often as the first, by Zipf's law."""

_KEY = f"{MODEL}.{VERSION}"
_API = APIS[API]
_TIMEOUT_S = 2.0
_PATIENCE = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class Answered:
    """One request: seconds from the new replica to its sending, negative before; who answered, empty if it failed."""

    at_s: float
    replica: str


@dataclass(frozen=True, slots=True)
class Round:
    """The answers by one path in one round, in the order of sending; they count from ``began_s`` on, which is negative.

    The replicas in ``old`` were there before the new one.

    Raises:
        UnitError: by a property that counts answers, if there were none.
    """

    answers: Sequence[Answered]
    began_s: float
    old: Sequence[str]
    new: str

    @property
    def spread_before(self) -> float:
        """Requests of the busiest replica over the mean of all, before another was added: 1 is even."""
        return _spread([each for each in self.answers if self.began_s <= each.at_s < self.began_s + BEFORE_S], self.old)

    @property
    def spread_after(self) -> float:
        """The same with the new replica, once its share has settled."""
        return _spread(self._settled, [*self.old, self.new])

    @property
    def share(self) -> float:
        """Requests of the new replica over an even share: 1 is even, 0 none."""
        answered = [each.replica for each in self._settled if each.replica]
        if not answered:
            raise UnitError(_NOTHING)
        return (len(self.old) + 1) * answered.count(self.new) / len(answered)

    @property
    def first_s(self) -> float:
        """When the first request was sent that the new replica answered; infinite if there was none."""
        return min((each.at_s for each in self.answers if each.replica == self.new), default=math.inf)

    @property
    def failed(self) -> float:
        """Share of all requests that failed."""
        return sum(not each.replica for each in self.answers) / len(self.answers)

    @property
    def _settled(self) -> list[Answered]:
        return [each for each in self.answers if SETTLED_S <= each.at_s < AFTER_S]


def share_between(rounds: Sequence[Round], start_s: float, end_s: float) -> float:
    """Returns the new replica's share of the answers to requests sent between two times, over all rounds together.

    Times count as in :class:`Answered`. The share is 0 if nothing was answered.
    """
    by_new = [
        each.replica == measured.new
        for measured in rounds
        for each in measured.answers
        if each.replica and start_s <= each.at_s < end_s
    ]
    return sum(by_new) / max(len(by_new), 1)


def _spread(answers: Sequence[Answered], replicas: Sequence[str]) -> float:
    counts = [sum(each.replica == replica for each in answers) for replica in replicas]
    if not any(counts):
        raise UnitError(_NOTHING)
    return max(counts) * len(counts) / sum(counts)


@dataclass(frozen=True, slots=True)
class ScalableCluster:
    """A lab whose cluster is scaled out and in, the list that its VIPs read, and their addresses by path."""

    environment: Environment
    replicas: ReplicasFile
    vips: Mapping[str, str]

    def scale_out(self) -> tuple[str, float]:
        """Adds a replica, and lists it for the VIPs once it is ready; returns its name, and when that was."""
        lab = self.environment.lab
        new = lab.units.scale(CLUSTER, REPLICAS + 1)[-1]

        def loaded() -> bool:
            known = lab.control_plane_status()
            return known is not None and any(each.replica == new and _KEY in each.loaded for each in known.replicas)

        eventually(f"{new} has loaded {_KEY}", loaded, within=_PATIENCE)
        self.replicas.write(self._addresses(new))
        return new, monotonic()

    def scale_in(self) -> None:
        """Removes the replica again, first from the VIPs."""
        self.replicas.write(self._addresses())
        self.environment.lab.units.scale(CLUSTER, REPLICAS)

    @property
    def names(self) -> list[str]:
        """The replicas that stay."""
        models = self.environment.state.plan.with_role("model")
        return [unit.name for unit in models if unit.cluster == CLUSTER][:REPLICAS]

    def _addresses(self, *more: str) -> list[str]:
        plan = self.environment.state.plan
        return [plan.unit(name).address for name in (*self.names, *more)]


async def measure(
    clusters: Sequence[ScalableCluster], topologies: Iterable[str], rounds: int
) -> dict[str, list[Round]]:
    """Returns the rounds of each path: every VIP, and topologies of the first cluster's lab.

    Raises:
        UnitError: the wrong model answered.
    """
    endpoints = clusters[0].environment.lab.endpoints().clients[CALLER]
    clients = {topology: open_client(topology, CALLER, endpoints) for topology in topologies}
    seen: dict[str, list[Round]] = {}
    draw = Random(0)  # noqa: S311 (no secret)
    async with all_ready(clients.values()):
        trials = Trials(clusters[0].environment, [["all paths"]] * rounds)
        for trial in trials:
            with trial:
                for path, measured in (await _round(clusters, clients, draw)).items():
                    seen.setdefault(path, []).append(measured)
                trial.keep()
    trials.require_one()
    return seen


async def _round(clusters: Sequence[ScalableCluster], clients: Mapping[str, Client], draw: Random) -> dict[str, Round]:
    answers: dict[str, list[tuple[float, str]]] = {}
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        senders = {topology: [_through(client)] * len(INTERVALS_MS) for topology, client in clients.items()}
        for cluster in clusters:
            for path, address in cluster.vips.items():
                senders[path] = await _connections(stack, address, draw)
        sending = [
            asyncio.create_task(
                send_at_fixed_rate(
                    _recorder(send, answers.setdefault(path, [])),
                    every_ms=every_ms,
                    numbers=itertools.count(),
                    offset_ms=(7 * place + 3 * number) % every_ms,
                    stop=stop,
                )
            )
            for place, (path, sends) in enumerate(senders.items())
            for number, (send, every_ms) in enumerate(zip(sends, INTERVALS_MS, strict=True))
        ]
        began = monotonic()
        try:
            await asyncio.sleep(BEFORE_S)
            added = await asyncio.gather(*(asyncio.to_thread(cluster.scale_out) for cluster in clusters))
            await asyncio.sleep(max(at for _, at in added) + AFTER_S - monotonic())
        finally:
            stop.set()
            await asyncio.gather(*sending)
    await asyncio.gather(*(asyncio.to_thread(cluster.scale_in) for cluster in clusters))
    measured = {}
    for cluster, (new, at) in zip(clusters, added, strict=True):
        for path in (*cluster.vips, *(clients if cluster is clusters[0] else ())):
            answered = [Answered(sent - at, replica) for sent, replica in answers[path]]
            measured[path] = Round(answered, began - at, cluster.names, new)
    return measured


def _recorder(send: Callable[[], Awaitable[str]], answers: list[tuple[float, str]]) -> Callable[[int], Awaitable[None]]:
    async def send_one(_due_ns: int) -> None:
        sent = monotonic()
        try:
            replica = await send()
        except (grpc.aio.AioRpcError, CallError):
            replica = ""
        answers.append((sent, replica))

    return send_one


def _through(client: Client) -> Callable[[], Awaitable[str]]:
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
    """Opens one connection per caller, one after the other, and deals them out in a random order."""
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
