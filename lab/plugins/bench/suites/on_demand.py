"""What a sidecar costs that receives every cluster, against one that requests only the clusters its caller uses."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random
from string import Template
from typing import TYPE_CHECKING, Any

import grpc
import psutil
from envoy.service.discovery.v3 import ads_pb2_grpc

from lab import FILES
from lab.errors import InputError
from lab.identity.envoy import sockets_of
from lab.measure.compare import interleave, median, median_ratio, typical
from lab.measure.control import control
from lab.plugins.bench.harness.bench import Bench, Option
from lab.plugins.bench.harness.charts import MIXED, chart_of_lines
from lab.plugins.bench.harness.environment import Environment, allocated_mb, xds_bytes
from lab.plugins.bench.harness.result import BenchResult, Claim, ResultTable
from lab.plugins.bench.harness.trials import Trials
from lab.plugins.bench.harness.variant import CLUSTER, MODEL, VERSION
from lab.report.scales import logarithmic
from lab.roles import UNIX
from lab.roles._envoy import admin_view, envoy_address, removed_picks, xds_cluster
from lab.roles._observed import NOT_OBSERVED
from lab.routing.keys import HEADER, routing_key
from lab.routing.keys_in_lua import IN_BOOTSTRAP
from lab.transport import listen, new_server, open_channel
from models.proto.ranking.v1 import ranking_pb2, ranking_pb2_grpc
from services.controlplane.xds.resources import CLUSTER as CLUSTER_TYPE
from services.controlplane.xds.resources import endpoint_set_name
from services.controlplane.xds.service import Discovery
from services.controlplane.xds.store import ResourceStore

if TYPE_CHECKING:
    from lab.report.chart import Chart

SIZES = (10, 100, 1_000, 10_000)
"""Numbers of clusters at the control plane."""

USED = 10
"""Clusters that the caller uses."""

CHANGES = 50
ON_DEMAND, EAGER, _AGAIN = "on demand", "eager", " again"
AGAIN = ON_DEMAND + _AGAIN
GROWS_AT_MOST = 1.15

_KEY = routing_key(MODEL, VERSION)
_READY_S, _ANSWER_S, _APPLY_S = 120.0, 5.0, 30.0
_POLL_S = 0.005
_TEMPLATE = FILES / "envoy" / "by-routing-key.yaml"
_ALL_CLUSTERS = "  cds_config: {ads: {}, resource_api_version: V3, initial_fetch_timeout: 2s}\n"
_STYLES = {ON_DEMAND: "run-1", EAGER: "run-2"}
FIGURES: Mapping[str, str] = {
    "rss_mb": "resident memory, MB",
    "allocated_mb": "allocated according to Envoy, MB",
    "ready_ms": "start to ready, ms",
    "answer_ms": "start to first answer, ms",
    "first_kb": "received until then, KB",
    "change_bytes": "received per change, bytes",
}
"""Figures of each Envoy: name → description with unit."""


class _EagerDiscovery(Discovery):
    """Subscribes an eager Envoy to every cluster by name, which the lab's control plane never does."""

    def __init__(self, store: ResourceStore, names: Sequence[str]) -> None:
        super().__init__(store)
        self._names = names

    async def DeltaAggregatedResources(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        async def requests() -> AsyncIterator[Any]:
            named = False
            async for request in request_iterator:
                if not named and request.type_url == CLUSTER_TYPE and not request.resource_names_subscribe:
                    named = True
                    request.resource_names_subscribe.extend(self._names)
                yield request

        async for response in super().DeltaAggregatedResources(requests(), context):
            yield response


@dataclass(frozen=True, slots=True)
class Place:
    """The addresses of the bench: of the model that answers, and of its own control plane."""

    environment: Environment
    replica: str
    control_plane: str

    @classmethod
    def of(cls, environment: Environment) -> Place:
        """Returns those in a lab that is up."""
        return cls(environment, environment.replicas(CLUSTER)[0], environment.address("on-demand-xds"))


def run(environment: Environment, rounds: int, *, clusters: Sequence[str] = ()) -> BenchResult:
    """Starts an Envoy of each kind at each size once a round, and ends it.

    Raises:
        InputError: only one size is given.
    """
    if len(clusters) == 1:
        raise InputError(f"--clusters: {clusters[0]} alone shows no growth; write two numbers, e.g. 10,1000")
    place = Place.of(environment)
    sizes = sorted(map(int, clusters)) or SIZES
    cells = [*product((ON_DEMAND, EAGER), sizes), (AGAIN, sizes[0])]
    trials = Trials(environment, interleave(cells, rounds))
    for trial in trials:
        kind, size = trial.cell
        with trial:
            name = f"{kind.replace(' ', '-')}-{size}-{trial.number}"
            trial.keep(**asyncio.run(measured(place, kind.removesuffix(_AGAIN), size, name)))
    seen = {(*cell, figure): trials.samples[cell, figure] for cell in cells for figure in FIGURES}
    return _result(seen, sizes, rounds)


async def measured(place: Place, kind: str, size: int, name: str) -> dict[str, float]:
    """Returns the :data:`FIGURES` of one Envoy, of :data:`ON_DEMAND` or :data:`EAGER` kind, among ``size`` clusters."""
    store = ResourceStore()
    keys = [_KEY, *(f"filler-{number}.v1" for number in range(1, size))]
    store.update(
        clusters=dict.fromkeys(keys, "there"),
        endpoint_sets={endpoint_set_name("there", key): [place.replica] for key in keys},
    )
    server, _ = new_server()
    ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(
        _EagerDiscovery(store, keys) if kind == EAGER else Discovery(store), server
    )
    listen(server, place.control_plane)
    await server.start()
    try:
        return await _figures(place, kind, name, store, keys)
    finally:
        await server.stop(0)


async def _figures(place: Place, kind: str, name: str, store: ResourceStore, keys: list[str]) -> dict[str, float]:
    address, admin = (place.environment.address(f"{name}-{what}") for what in ("requests", "admin"))
    began = time.monotonic()
    process = psutil.Process(await asyncio.to_thread(_start, place, kind, name, address, admin))
    try:
        await _until(f"Envoy at {admin} is not ready", lambda: asyncio.to_thread(_is_ready, admin))
        ready_s = time.monotonic() - began
        async with open_channel(address, own_connection=True) as channel:
            await _until(f"Envoy at {admin} answers nothing", lambda: _ask(channel, _KEY))
            answer_s = time.monotonic() - began
            for key in keys[1:USED]:
                await _ask(channel, key)
        await store.subscribers.wait_applied(store.subscribers.generation, timeout_s=_APPLY_S)
        first = await asyncio.to_thread(xds_bytes, admin)
        await _change(store, place.replica, keys)
        last = await asyncio.to_thread(xds_bytes, admin)
        return {
            "rss_mb": process.memory_info().rss / 1e6,
            "allocated_mb": await asyncio.to_thread(allocated_mb, admin),
            "ready_ms": ready_s * 1e3,
            "answer_ms": answer_s * 1e3,
            "first_kb": first / 1e3,
            "change_bytes": (last - first) / CHANGES,
        }
    finally:
        process.kill()
        await asyncio.to_thread(psutil.wait_procs, [process], _ANSWER_S)


def _start(place: Place, kind: str, name: str, address: str, admin: str) -> int:
    page = place.environment.runtime.site().socket(name, "admin")
    text = Template(_TEMPLATE.read_text()).substitute(
        address=json.dumps(envoy_address(address)),
        **xds_cluster(place.control_plane),
        role="sidecar",
        via="",
        shared="",
        tenants="",
        **dict.fromkeys(("own_filters", "own_clusters", "own_replies", "metadata"), ""),
        access_log="/dev/null",
        secrets="",
        **admin_view(page, admin),
        **sockets_of("", name),
        **IN_BOOTSTRAP,
        **removed_picks(),
        **NOT_OBSERVED,
    )
    assert _ALL_CLUSTERS in text  # noqa: S101 (a line of the template)
    if kind == ON_DEMAND:
        text = text.replace(_ALL_CLUSTERS, "")
    # The view listens only once the Envoy has all its clusters.
    return place.environment.start_envoy(name, f"{UNIX}{page}", text)


async def _until(what: str, probe: Callable[[], Awaitable[bool]]) -> None:
    give_up = time.monotonic() + _READY_S
    while not await probe():
        if time.monotonic() > give_up:
            raise TimeoutError(f"{what} within {_READY_S:g} s")
        await asyncio.sleep(_POLL_S)


def _is_ready(admin: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{admin}/ready", timeout=_ANSWER_S) as answer:
            return bool(answer.read().strip() == b"LIVE")
    except OSError:
        return False


async def _ask(channel: grpc.aio.Channel, key: str) -> bool:
    """Whether the replica has answered. It refuses all keys but its own, which uses a cluster just as well."""
    request = ranking_pb2.RankRequest(titles=[ranking_pb2.Title(id="t1")])
    request.envelope.model_config.model, _, request.envelope.model_config.version = key.partition(".")
    try:
        await ranking_pb2_grpc.RankingStub(channel).Rank(
            request, metadata=((HEADER, key),), timeout=_ANSWER_S, wait_for_ready=True
        )
    except grpc.aio.AioRpcError:
        return False
    return True


async def _change(store: ResourceStore, replica: str, keys: Sequence[str]) -> None:
    """Changes the endpoints of clusters drawn at random from all, one after the other."""
    draw = Random(0)  # noqa: S311 (no secret)
    for number in range(CHANGES):
        name = endpoint_set_name("there", draw.choice(keys))
        generation = store.update(endpoint_sets={name: [replica, f"127.0.0.1:{10_000 + number}"]})
        await store.subscribers.wait_applied(generation, timeout_s=_APPLY_S)


def _result(seen: Mapping[tuple[str, int, str], list[float]], sizes: Sequence[int], rounds: int) -> BenchResult:
    small, large = (seen[ON_DEMAND, size, "rss_mb"] for size in (sizes[0], sizes[-1]))
    eager = seen[EAGER, sizes[-1], "rss_mb"]
    same = control(f"{AGAIN} − {ON_DEMAND}, {FIGURES['rss_mb']}", small, seen[AGAIN, sizes[0], "rss_mb"])
    doubts = tuple(filter(None, [same.doubt]))
    columns = ("clusters", "sidecar", *FIGURES.values())
    rows: list[tuple[float | str, ...]] = [
        (f"{size:,}", kind, *(f"{typical(seen[kind, size, figure]):,.1f}" for figure in FIGURES))
        for size in sizes
        for kind in (ON_DEMAND, EAGER)
    ]
    return BenchResult(
        unit=MIXED,
        samples={
            f"{FIGURES[figure]}, {kind}, {size:,} clusters": values for (kind, size, figure), values in seen.items()
        },
        claims=[
            Claim(
                f"resident memory on demand, {sizes[-1]:,} clusters / {sizes[0]}",
                median_ratio(large, small),
                at_most=GROWS_AT_MOST,
                doubts=doubts,
            ),
            Claim(
                f"resident memory at {sizes[-1]:,} clusters, eager / on demand",
                median_ratio(eager, large),
                at_least=2.0,
                doubts=doubts,
            ),
        ][: 2 if sizes[-1] == SIZES[-1] else 1],
        notes=[
            f"n = {rounds} Envoys of each kind at each size; the caller uses {USED} clusters",
            f"{CHANGES} changes of endpoints, each of a cluster drawn at random from all",
            "eager: the same bootstrap with a cds_config, and a control plane that answers it with every cluster",
        ],
        controls=[same],
        tables=[ResultTable("median of each", columns, rows, numbers=columns[:1] + columns[2:])],
        charts=[_chart(seen, sizes, figure, rounds) for figure in ("rss_mb", "answer_ms", "first_kb")],
    )


def _chart(seen: Mapping[tuple[str, int, str], list[float]], sizes: Sequence[int], figure: str, rounds: int) -> Chart:
    return chart_of_lines(
        f"a sidecar, on demand and eager: {FIGURES[figure]}",
        logarithmic("clusters", sizes[0], sizes[-1]),
        FIGURES[figure],
        {kind: [(size, median(seen[kind, size, figure])) for size in sizes] for kind in (ON_DEMAND, EAGER)},
        styles=_STYLES,
        name=figure.replace("_", "-"),
        note=f"Medians over n = {rounds} rounds, with 95 % intervals.",
    )


BENCH = Bench(
    name="on-demand",
    question="What does a sidecar save that requests only the clusters its caller uses?",
    run=run,
    rounds=7,
    options=(
        Option(name="clusters", help="Measure at these numbers of clusters.", choices=lambda: [*map(str, SIZES)]),
    ),
    controls=1,
)
