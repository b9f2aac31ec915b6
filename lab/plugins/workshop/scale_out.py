"""Adds a replica to a cluster while requests reach it by several paths: through VIPs, and by topologies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from string import Template
from time import monotonic
from typing import TYPE_CHECKING, Any

import grpc.aio

from lab import FILES
from lab.errors import CallError, UnitError
from lab.plugins.bench.harness.senders import all_ready
from lab.plugins.bench.harness.variant import API, CALLER, CLUSTER, MODEL, REPLICAS, USE_CASE, VERSION
from lab.roles._envoy import xds_endpoints
from lab.routing.headers import FORGEABLE
from lab.topologies import open_client
from lab.transport import open_channel
from lab.waiting import eventually
from models.apis import APIS

if TYPE_CHECKING:
    from lab.client import Client
    from lab.plugins.bench.harness.environment import Environment

    Send = Callable[[], Awaitable[str]]  # returns the replica that answered

BEFORE_S, AFTER_S, SETTLED_S = 0.8, 2.4, 1.2
"""Requests count for so long before a replica is added, until so long after, and from when its share has settled."""

INTERVALS_MS = (40, 80, 120, 160, 200)
"""Between two requests of each caller: the k-th sends 1/k as often as the first, by Zipf's law."""

VIPS = ("L4", "L7")
"""A balancer of connections, and one of requests."""

_KEY = f"{MODEL}.{VERSION}"
_API = APIS[API]
_TIMEOUT_S = 2.0
_PATIENCE = timedelta(seconds=20)
_ASSIGNMENT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


@dataclass(frozen=True, slots=True)
class Answered:
    """One request: seconds from the new replica to its sending, negative before; who answered, empty if it failed."""

    at_s: float
    replica: str


@dataclass(frozen=True, slots=True)
class Round:
    """The answers by one path in one round; the replicas in ``old`` were there before the new one."""

    answers: Sequence[Answered]
    old: Sequence[str]
    new: str

    @property
    def share(self) -> float:
        """Requests of the new replica over an even share, once it has settled: 1 is even, 0 none."""
        return (len(self.old) + 1) * share_between([self], SETTLED_S, AFTER_S)


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


async def measure(environment: Environment, topologies: Iterable[str], rounds: int) -> dict[str, list[Round]]:
    """Returns the rounds of each path: every VIP, and topologies.

    Raises:
        UnitError: the wrong model answered.
    """
    cluster = _Cluster(environment, environment.lab.folder / "vip.json")
    cluster.write()
    vips = {path: _start_vip(environment, f"vip-{path.lower()}", cluster.file) for path in VIPS}
    endpoints = environment.lab.endpoints().clients[CALLER]
    clients = {topology: open_client(topology, CALLER, endpoints) for topology in topologies}
    seen: dict[str, list[Round]] = {path: [] for path in (*vips, *clients)}
    draw = Random(0)  # noqa: S311 (no secret)
    async with all_ready(clients.values()):
        for _ in range(rounds):
            for path, measured in (await _round(cluster, vips, clients, draw)).items():
                seen[path].append(measured)
    return seen


@dataclass(frozen=True, slots=True)
class _Cluster:
    """A cluster that is scaled out and in, and the file from which its VIPs read the replicas."""

    environment: Environment
    file: Path

    def scale_out(self) -> tuple[str, float]:
        """Adds a replica, and lists it for the VIPs once it is ready; returns its name, and when that was."""
        lab = self.environment.lab
        new = lab.units.scale(CLUSTER, REPLICAS + 1)[-1]

        def loaded() -> bool:
            known = lab.control_plane_status()
            return known is not None and any(each.replica == new and _KEY in each.loaded for each in known.replicas)

        eventually(f"{new} has loaded {_KEY}", loaded, within=_PATIENCE)
        self.write(new)
        return new, monotonic()

    def scale_in(self) -> None:
        """Removes the replica again, first from the VIPs."""
        self.write()
        self.environment.lab.units.scale(CLUSTER, REPLICAS)

    @property
    def names(self) -> list[str]:
        """The replicas that stay."""
        models = self.environment.state.plan.with_role("model")
        return [unit.name for unit in models if unit.cluster == CLUSTER][:REPLICAS]

    def write(self, *more: str) -> None:
        """Replaces the list."""
        plan = self.environment.state.plan
        endpoints = json.loads(xds_endpoints(",".join(plan.unit(name).address for name in (*self.names, *more))))
        assignment = {"@type": _ASSIGNMENT, "cluster_name": "model", "endpoints": [{"lb_endpoints": endpoints}]}
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({"resources": [assignment]}))
        new.rename(self.file)  # Envoy reads the file only when another is moved to its place


def _start_vip(environment: Environment, name: str, replicas: Path) -> str:
    """Starts a VIP, which ends with the lab, and returns its address."""
    address = environment.address(name)
    host, port = address.rsplit(":", 1)
    template = Template((FILES / "envoy" / f"{name}.yaml").read_text())
    environment.start_envoy(
        name, address, template.substitute(host=host, port=port, endpoints=replicas, forgeable=json.dumps(FORGEABLE))
    )
    return address


async def _round(
    cluster: _Cluster, vips: Mapping[str, str], clients: Mapping[str, Client], draw: Random
) -> dict[str, Round]:
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        paths = {topology: [_through(client)] * len(INTERVALS_MS) for topology, client in clients.items()}
        for path, address in vips.items():
            paths[path] = await _connections(stack, address, draw)
        answers: dict[str, list[tuple[float, str]]] = {path: [] for path in paths}
        sending = [
            asyncio.create_task(
                _at_fixed_rate(send, answers[path], every_ms, (7 * place + 3 * number) % every_ms, stop)
            )
            for place, (path, sends) in enumerate(paths.items())
            for number, (send, every_ms) in enumerate(zip(sends, INTERVALS_MS, strict=True))
        ]
        try:
            await asyncio.sleep(BEFORE_S)
            new, at = await asyncio.to_thread(cluster.scale_out)
            await asyncio.sleep(at + AFTER_S - monotonic())
        finally:
            stop.set()
            await asyncio.gather(*sending)
    await asyncio.to_thread(cluster.scale_in)
    return {
        path: Round([Answered(sent - at, replica) for sent, replica in seen], cluster.names, new)
        for path, seen in answers.items()
    }


async def _at_fixed_rate(
    send: Send, answers: list[tuple[float, str]], every_ms: int, offset_ms: int, stop: asyncio.Event
) -> None:
    """Sends while it is not to stop, whether or not answers come, and keeps who answered each request."""

    async def send_one() -> None:
        sent = monotonic()
        try:
            replica = await send()
        except (grpc.aio.AioRpcError, CallError):
            replica = ""
        answers.append((sent, replica))

    due, in_flight = monotonic() + offset_ms / 1e3, []
    while not stop.is_set():
        await asyncio.sleep(due - monotonic())
        in_flight.append(asyncio.create_task(send_one()))
        due += every_ms / 1e3
    await asyncio.gather(*in_flight)


def _through(client: Client) -> Send:
    request = _API.build_request(400)

    async def send() -> str:
        return _replica((await client.call(USE_CASE, request, {"user_id": "u1"})).response)

    return send


def _replica(response: Any) -> str:
    by = response.answered_by
    if (by.model, by.version) != (MODEL, VERSION):
        raise UnitError(f"{by.replica} answered as {by.model}@{by.version}, not as {MODEL}@{VERSION}")
    return str(by.replica)


async def _connections(stack: AsyncExitStack, address: str, draw: Random) -> list[Send]:
    """Opens one connection per caller, one after the other, and deals them out in a random order."""
    request = _API.build_request(400)
    request.envelope.model_config.model, request.envelope.model_config.version = MODEL, VERSION
    payload = request.SerializeToString()

    async def connected() -> Send:
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
