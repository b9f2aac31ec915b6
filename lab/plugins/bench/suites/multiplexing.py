"""What one HTTP/2 connection for all requests costs and saves, and how much of gRPC's cost is Python's server.

Requests in flight share a connection or have one each, by the same library and against the same model, whose service
time is constant. In one condition the path stalls one connection after the other, as TCP does when it waits for a lost
segment: *head-of-line blocking*. In another, large requests share the connections.

The servers are compared with one client, h2load, so that a difference is the server's: the stub model in Python, and an
Envoy that answers by itself.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from itertools import product
from random import Random
from typing import TYPE_CHECKING, TypeAlias

import orjson
import uvloop

from lab.errors import UnitError
from lab.measure.compare import added_ratio, interleave, median, median_ratio
from lab.measure.control import control
from lab.measure.findings import in_its_interval
from lab.measure.latency import LatencyHistogram
from lab.plugins.bench.harness import prebuilt_request
from lab.plugins.bench.harness.bench import Bench
from lab.plugins.bench.harness.charts import MIXED
from lab.plugins.bench.harness.encoding_clients import JsonClient
from lab.plugins.bench.harness.environment import Environment, cpu_seconds
from lab.plugins.bench.harness.h2load import NOT_MEASURED, H2Load, data_bytes
from lab.plugins.bench.harness.payloads import sized_payload
from lab.plugins.bench.harness.result import BenchResult, Claim, ResultTable
from lab.plugins.bench.harness.stubs import constant_latency
from lab.plugins.bench.harness.topology_rounds import static_envoy
from lab.plugins.bench.harness.trials import Trials
from lab.plugins.bench.harness.variant import API, CLUSTER
from lab.transport import open_channel
from lab.transport.relay import Relay, relay_to
from models.apis import APIS
from models.rest import resource_path

if TYPE_CHECKING:
    import grpc.aio

    Cell: TypeAlias = tuple[str, str]

LANES = 8
SECONDS = 0.6
SERVICE_MS = 5.0
STALL_S, STALL_EVERY_S = 0.05, 0.1
SMALL, LARGE = 400, 500_000
REQUESTS = 2_000
"""Of h2load, for each of its figures."""

SHARED, OWN, HTTP_1 = "HTTP/2, one connection", "HTTP/2, one each", "HTTP/1.1, one each"
AGAIN = f"{OWN}, again"
CALM, STALLS, BESIDE_LARGE = "undisturbed", "one connection stalls", "beside 0.5 MB"
BLOCKED_BOUND = 3.0

PYTHON, ENVOY = "Python's server", "Envoy's server"
_P50, _P99, _LATE, _CPU, _RPS = "p50, ms", "p99, ms", "late a stall", "CPU, s per 1,000", "rps"
_REPLICA = f"{CLUSTER}-a"
_BUFFER = """http_filters:
          - name: envoy.filters.http.buffer
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer
              max_request_bytes: 1000000"""


def run(environment: Environment, rounds: int) -> BenchResult:
    """Measures every kind of connection under every condition, and every server by h2load, once a round."""
    unit = environment.state.plan.unit(_REPLICA)
    assert unit.rest is not None  # noqa: S101 (every replica has one)
    addresses = {SHARED: unit.address, OWN: unit.address, AGAIN: unit.address, HTTP_1: unit.rest.outside}
    conditions: list[Cell] = [
        *product((SHARED, OWN, HTTP_1), (CALM, STALLS)),
        *product((SHARED, OWN), (BESIDE_LARGE,)),
        (AGAIN, CALM),
    ]
    servers: dict[str, tuple[int, str, str]] = {}
    if H2Load.is_there():
        envoy = environment.address("answering-envoy")
        servers = {
            PYTHON: (environment.state.running[unit.name].pid, unit.address, unit.rest.outside),
            ENVOY: (_answering_envoy(environment, envoy), envoy, envoy),
        }
    by_h2load: list[Cell] = [*product((SHARED, OWN, HTTP_1), servers)]
    trials = Trials(environment, interleave([*conditions, *by_h2load], rounds))
    for trial in trials:
        kind, other = trial.cell
        with trial:
            if other in servers:
                trial.keep(**_by_h2load(environment, kind, *servers[other]))
            else:
                with constant_latency([unit.address], SERVICE_MS):
                    trial.keep(**uvloop.run(_by_lanes(addresses[kind], kind, other, seed=trial.number)))
    samples = trials.samples
    return _result(
        {cell: {name: samples[cell, name] for name in (_P50, _P99, _LATE)} for cell in conditions},
        {cell: {name: samples[cell, name] for name in (_RPS, _CPU)} for cell in by_h2load},
        rounds,
    )


class _Lanes:
    """Sends requests by lanes, which share one connection or have one each."""

    def __init__(self, address: str, kind: str) -> None:
        self._http_1 = JsonClient(address, sized_payload("", SMALL).document())
        self._channels: list[grpc.aio.Channel] = []
        if kind != HTTP_1:
            count = 1 if kind == SHARED else LANES + 1
            self._channels = [open_channel(address, own_connection=True) for _ in range(count)]
        self._messages = [sized_payload("", size).message()().SerializeToString() for size in (SMALL, LARGE)]

    async def send(self, lane: int, *, large: bool = False) -> None:
        """Sends a request, and awaits the answer; by HTTP/1.1 only small ones."""
        if not self._channels:
            await self._http_1.ask(lane)
            return
        channel = self._channels[lane % len(self._channels)]
        rpc: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(APIS[API].unary.path)
        await rpc(self._messages[large])

    async def close(self) -> None:
        await asyncio.gather(self._http_1.close(), *(each.close() for each in self._channels))


async def _by_lanes(address: str, kind: str, condition: str, *, seed: int) -> dict[str, float]:
    """Latencies of small requests, with :data:`LANES` in flight, and how many of them each stall made late."""
    latencies, late, end = LatencyHistogram(), 0, 0.0

    async def one_after_the_other(lane: int) -> None:
        nonlocal late
        while time.monotonic() < end:
            began = time.perf_counter_ns()
            await lanes.send(lane)
            latencies.record(time.perf_counter_ns() - began)
            late += time.perf_counter_ns() - began > (SERVICE_MS / 1e3 + STALL_S / 2) * 1e9

    async def large_ones() -> None:
        while time.monotonic() < end:
            await lanes.send(LANES, large=True)

    async with relay_to(address) as relay:
        lanes = _Lanes(relay.address, kind)
        try:
            await asyncio.gather(*(lanes.send(lane) for lane in range(LANES)))
            if condition == BESIDE_LARGE:
                await lanes.send(LANES, large=True)
            end = time.monotonic() + SECONDS
            disturbing = []
            if condition == STALLS:
                disturbing.append(_stall(relay, end, seed))
            if condition == BESIDE_LARGE:
                disturbing.append(large_ones())
            await asyncio.gather(*disturbing, *map(one_after_the_other, range(LANES)))
        finally:
            await lanes.close()
    stalls = SECONDS / STALL_EVERY_S
    return {_P50: latencies.value_at_ms(50), _P99: latencies.value_at_ms(99), _LATE: late / stalls}


async def _stall(relay: Relay, end: float, seed: int) -> None:
    draw = Random(seed)  # noqa: S311 (no secret)
    while time.monotonic() < end - STALL_S:
        await asyncio.sleep(STALL_EVERY_S - STALL_S)
        await relay.stall(draw, STALL_S)


def _answering_envoy(environment: Environment, address: str) -> int:
    """Starts an Envoy that reads a request to its end and answers it by itself; returns its process id."""
    answer = f'direct_response: {{status: 200, body: {{inline_string: "{"x" * 64}"}}}}'
    text = static_envoy(address)
    for old, new in (
        ("codec_type: HTTP2", "codec_type: AUTO"),
        ("route: {cluster: model, timeout: 0s}", answer),
        ("http_filters:", _BUFFER),
    ):
        text = text.replace(old, new)
    return environment.start_envoy("answering-envoy", address, text)


def _by_h2load(environment: Environment, kind: str, pid: int, http_2: str, http_1: str) -> dict[str, float]:
    """Requests per second, and the server's processor time, with :data:`LANES` in flight."""
    if kind == HTTP_1 or http_1 == http_2:  # Envoy answers by either, to the same bytes
        url, headers = f"http://{http_1}{resource_path(APIS[API])}", ["content-type: application/json"]
        content = orjson.dumps(sized_payload("", SMALL).document(), option=orjson.OPT_SERIALIZE_NUMPY)
    else:
        url, headers = (
            f"http://{http_2}{prebuilt_request.METHOD.path}",
            ["content-type: application/grpc", "te: trailers"],
        )
        content = prebuilt_request.frame(prebuilt_request.request(SMALL))
    body = environment.lab.folder / "h2load-body"
    body.write_bytes(content)
    connections, streams = (1, LANES) if kind == SHARED else (LANES, 1)
    argv = [
        *("h2load", f"--requests={REQUESTS}", f"--clients={connections}", f"--max-concurrent-streams={streams}"),
        *(f"--data={body}", *(f"--header={each}" for each in headers), *(("--h1",) if kind == HTTP_1 else ()), url),
    ]
    before, began = cpu_seconds(pid), time.monotonic()
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True, start_new_session=True)
    took_s, cpu_s = time.monotonic() - began, cpu_seconds(pid) - before
    answered = "".join(re.findall("^requests: .*$", done.stdout, re.MULTILINE))
    if f" {REQUESTS} succeeded" not in answered or not data_bytes(done.stdout):
        raise UnitError(f"h2load, {kind}, {url}: not every request was answered: {answered}")
    return {_RPS: REQUESTS / took_s, _CPU: cpu_s * 1e3 / REQUESTS}


def _result(
    lanes: Mapping[Cell, Mapping[str, Sequence[float]]],
    servers: Mapping[Cell, Mapping[str, Sequence[float]]],
    rounds: int,
) -> BenchResult:
    same = control(f"{AGAIN} − {OWN}, {CALM}, {_P50}", lanes[OWN, CALM][_P50], lanes[AGAIN, CALM][_P50])
    late = {cell: each[_LATE] for cell, each in lanes.items()}
    shared, own = (
        [stalled - calm for stalled, calm in zip(late[kind, STALLS], late[kind, CALM], strict=True)]
        for kind in (SHARED, OWN)
    )
    blocked = added_ratio(shared, own, [0.0] * len(own))
    claims = [
        Claim(
            f"requests that a stalled connection makes late, {SHARED} / one each",
            blocked,
            at_least=BLOCKED_BOUND,
            doubts=tuple(filter(None, [same.doubt])),
        )
    ]
    latency = ResultTable(
        f"small requests, {LANES} in flight, medians over rounds with 95 % intervals",
        ("connections", "condition", _P50, _P99, _LATE),
        [
            (*cell, *(in_its_interval(median(each[name])) for name in (_P50, _P99, _LATE)))
            for cell, each in lanes.items()
        ],
        numbers=(_P50, _P99, _LATE),
    )
    cost = ResultTable(
        f"servers, by h2load with {LANES} in flight, medians over rounds with 95 % intervals",
        ("server", "connections", _RPS, _CPU),
        [
            (server, kind, *(in_its_interval(median(each[name])) for name in (_RPS, _CPU)))
            for (kind, server), each in servers.items()
        ],
        numbers=(_RPS, _CPU),
    )
    return BenchResult(
        unit=MIXED,
        samples={
            f"{', '.join(cell)}, {name}": values
            for cells in (lanes, servers)
            for cell, figures in cells.items()
            for name, values in figures.items()
        },
        claims=claims,
        controls=[same],
        tables=[latency, *([cost, _shares(servers)] if servers else [])],
        notes=[
            f"n = {rounds} rounds × {SECONDS:g} s; the model takes {SERVICE_MS:g} ms; late: by half of a stall or more",
            f"every {1e3 * STALL_EVERY_S:g} ms a connection drawn at random carries nothing for {1e3 * STALL_S:g} ms",
            f"all go through one relay, in the client's process; {BESIDE_LARGE}: one such request is in flight as well",
            (
                f"h2load: n = {rounds} rounds × {REQUESTS} requests of {SMALL} B; the Envoy answers by itself"
                if servers
                else NOT_MEASURED
            ),
        ],
    )


def _shares(servers: Mapping[Cell, Mapping[str, Sequence[float]]]) -> ResultTable:
    """How many times HTTP/1.1's processor time HTTP/2 takes in either server, and what the model's own work adds."""
    rows: list[tuple[str, ...]] = []
    for kind in (OWN, SHARED):
        ratios = [median_ratio(servers[kind, each][_CPU], servers[HTTP_1, each][_CPU]) for each in (PYTHON, ENVOY)]
        rows.append((kind, *map(in_its_interval, ratios)))
    columns = ("connections", PYTHON, ENVOY)
    title = (
        "server's processor time by HTTP/2, as a multiple of that by HTTP/1.1: gRPC and REST in Python, plain in Envoy"
    )
    return ResultTable(title, columns, rows, numbers=columns[1:])


BENCH = Bench(
    name="multiplexing",
    part_of="encodings",
    question="What does sharing one HTTP/2 connection cost, and how much of gRPC's cost is Python's server?",
    run=run,
    controls=1,
)
