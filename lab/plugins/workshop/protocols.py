"""REST or gRPC, unary or streamed, L4 or L7: small measurements on one lab; the bench ``encodings`` is a larger one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import orjson

from lab.plugins.bench.harness.encoding_clients import EncodingClient, GrpcClient, JsonClient
from lab.plugins.bench.harness.environment import Environment, cpu_seconds
from lab.plugins.bench.harness.payloads import Payload, sized_payload, talk_payload
from lab.plugins.bench.harness.stubs import constant_latency
from lab.plugins.bench.harness.variant import CALLER, CLUSTER, REPLICAS, USE_CASE
from lab.plugins.workshop.figures import Figure, show
from lab.plugins.workshop.scale_out import AFTER_S, BEFORE_S, INTERVALS_MS, Round, measure, share_between
from lab.report.bars import Bar, BarChart, BarGroup, Bound
from lab.report.chart import Chart, Line
from lab.report.palette import topology_style
from lab.report.scales import linear, size
from lab.runtime.state import LabState
from lab.topologies import open_client
from models.apis import APIS

if TYPE_CHECKING:
    from lab.client import Client
    from lab.lab import Lab

GRPC, REST = "gRPC, protobuf", "REST, JSON"
STYLES = {GRPC: "run-1", REST: "run-2"}

ITEMS, ITEM_MS = 10, 4.0
SERVICE_MS = ITEMS * ITEM_MS
"""Service time of the stub; a stream gets an item after each tenth of it, so both kinds are the same work."""

_ASKS, _TURNS = 40, 5
_STEP_S = 0.4
_API = APIS["ranking.v1"]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a request takes, ms: the median time, and processor time of both ends."""

    p50: float
    client_cpu: float
    server_cpu: float


def payload_of(payload_bytes: int) -> Payload:
    """The talk's example for 0, else a request with ``size`` bytes of features."""
    return sized_payload(size(payload_bytes), payload_bytes) if payload_bytes else talk_payload()


def bytes_of(payload_bytes: int) -> dict[str, int]:
    """The length of the same request by either encoding."""
    payload = payload_of(payload_bytes)
    return {
        GRPC: payload.message()().ByteSize(),
        REST: len(orjson.dumps(payload.document(), option=orjson.OPT_SERIALIZE_NUMPY)),
    }


def bytes_picture(payload_bytes: int) -> Figure:
    """The same as bars."""
    lengths = bytes_of(payload_bytes)
    bars = [Bar(name, STYLES[name], length, text=f"{length:,} bytes") for name, length in lengths.items()]
    title = f"The same request, {lengths[REST] / lengths[GRPC]:.1f} times as long as JSON"
    return show(BarChart(title, linear("bytes", max(lengths.values())), [BarGroup("", bars)]))


async def costs(lab: Lab, payload_bytes: int) -> dict[str, Cost]:
    """What a request takes by either encoding, one at a time, in turns, to one replica."""
    state = LabState.of(lab.folder)
    unit = next(each for each in state.plan.units if each.cluster == CLUSTER)
    assert unit.rest is not None  # noqa: S101 (every replica has one)
    pid = state.running[unit.name].pid
    payload = payload_of(payload_bytes)
    clients: dict[str, EncodingClient] = {
        GRPC: GrpcClient(unit.address, payload.message()),
        REST: JsonClient(unit.rest.outside, payload.document()),
    }
    took: dict[str, list[float]] = {name: [] for name in clients}
    cpu = {name: [0.0, 0.0] for name in clients}
    try:
        for client in clients.values():
            await client.ask(0)
        for _ in range(_TURNS):
            for name, client in clients.items():
                before = time.process_time(), cpu_seconds(pid)
                for _ in range(_ASKS):
                    began = time.perf_counter()
                    await client.ask(0)
                    took[name].append(1e3 * (time.perf_counter() - began))
                cpu[name][0] += time.process_time() - before[0]
                cpu[name][1] += cpu_seconds(pid) - before[1]
    finally:
        for client in clients.values():
            await client.close()
    each_ms = 1e3 / (_ASKS * _TURNS)
    return {name: Cost(median(took[name]), *(seconds * each_ms for seconds in cpu[name])) for name in clients}


def costs_picture(measured: Mapping[str, Cost], payload_bytes: int) -> Figure:
    """What a request takes, by either encoding."""
    names = {"p50": "time", "client_cpu": "processor, caller", "server_cpu": "processor, model"}
    groups = [
        BarGroup(words, [Bar(name, STYLES[name], getattr(cost, field)) for name, cost in measured.items()])
        for field, words in names.items()
    ]
    most = max(bar.value for group in groups for bar in group.bars)
    title = f"What a request of {size(payload_bytes)} takes"
    note = f"{_ASKS * _TURNS} requests each, one at a time; the model's processor time is counted in steps of 10 ms."
    return show(BarChart(title, linear("ms a request", most or 1.0), groups, note=note))


async def arrivals(lab: Lab, topology: str) -> tuple[float, list[float]]:
    """When a whole answer came, and each item of a stream, ms after the request; both are the same work.

    The median, by the time of the last item, of three tries.
    """
    state = LabState.of(lab.folder)
    replicas = Environment(lab, print).replicas(CLUSTER)
    client = open_client(topology, CALLER, state.plan.clients[CALLER])
    try:
        with constant_latency(replicas, SERVICE_MS):
            await client.ready()
            await _arrivals(client)
            tries = [await _arrivals(client) for _ in range(3)]
    finally:
        await client.close()
    return sorted(tries, key=lambda each: each[1][-1])[1]


async def _arrivals(client: Client) -> tuple[float, list[float]]:
    request = _API.build_request(400)
    began = time.perf_counter()
    await client.call(USE_CASE, request, {"user_id": "u1"})
    whole = 1e3 * (time.perf_counter() - began)
    began = time.perf_counter()
    stream = client.stream(USE_CASE, request, {"user_id": "u1"})
    return whole, [1e3 * (time.perf_counter() - began) async for _ in stream]


def arrivals_picture(topology: str, seen: tuple[float, Sequence[float]]) -> Figure:
    """Ranked titles that the caller has, over time."""
    whole, items = seen
    steps = [(0.0, 0.0), *((at, float(count)) for count, at in enumerate(items, 1))]
    lines = [
        Line("as a stream", topology_style(topology), steps, dots=True),
        Line("as a whole", "failed", [(0.0, 0.0), (whole, 0.0), (whole, float(len(items)))]),
    ]
    longest = linear("ms since the request", max(whole, *items))
    note = f"The model takes {SERVICE_MS:g} ms for {ITEMS} titles; a stream brings one each {ITEM_MS:g} ms."
    return show(Chart(f"{topology}: titles that the caller has", longest, linear("titles", ITEMS), lines), note)


async def grow(lab: Lab, *, rounds: int = 1) -> dict[str, list[Round]]:
    """A cluster gets a third replica while requests flow to it: by an L4 VIP, by an L7 VIP, and by the mesh.

    Returns:
        path → its rounds.
    """
    return await measure(Environment(lab, lambda _: None), ["mesh"], rounds)


def spread_picture(seen: Mapping[str, Sequence[Round]]) -> Figure:
    """How many requests each replica got, before another was added."""
    groups = []
    for path, rounds in seen.items():
        answered = [each.replica for taken in rounds for each in taken.answers if each.replica and each.at_s < 0]
        bars = [Bar(name, _style(path), answered.count(name)) for name in rounds[0].old]
        groups.append(BarGroup(path, bars))
    most = max(bar.value for group in groups for bar in group.bars)
    even = sum(bar.value for bar in groups[0].bars) / REPLICAS
    note = f"{len(INTERVALS_MS)} callers with a connection each; the busiest sends {len(INTERVALS_MS)} times as often."
    chart = BarChart(
        "Requests to each replica, before a third is added",
        linear("requests", most),
        groups,
        bounds=[Bound("even", even)],
        note=note,
    )
    return show(chart)


def newcomer_picture(seen: Mapping[str, Sequence[Round]]) -> Figure:
    """The share that a new replica gets, over time."""
    steps = [step * _STEP_S for step in range(-round(BEFORE_S / 2 / _STEP_S), round(AFTER_S / _STEP_S))]
    lines = [
        Line(path, _style(path), [(at + _STEP_S / 2, 100 * share_between(rounds, at, at + _STEP_S)) for at in steps])
        for path, rounds in seen.items()
    ]
    even = Line("an even share", "run-7", [(at + _STEP_S / 2, 100 / (REPLICAS + 1)) for at in steps])
    x = linear("seconds since the new replica could answer", AFTER_S, low=-BEFORE_S / 2)
    y = linear("its share of requests, %", max(value for line in (*lines, even) for _, value in line.points))
    return show(Chart("What a new replica gets", x, y, [*lines, even]))


def _style(path: str) -> str:
    return {"L4": "run-2", "L7": "run-3"}.get(path, topology_style(path))
