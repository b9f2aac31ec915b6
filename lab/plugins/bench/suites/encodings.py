"""REST and JSON against gRPC and protobuf: the same requests to the same model, with the same concurrency."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import product
from typing import Any

import numpy as np
import orjson
import uvloop

from lab.errors import UnitError
from lab.measure.compare import Interval, interleave, median, median_ratio
from lab.measure.control import control
from lab.measure.findings import in_its_interval
from lab.measure.latency import LatencyHistogram
from lab.plugins.bench.harness.bench import Bench
from lab.plugins.bench.harness.charts import MIXED, chart_of_bars
from lab.plugins.bench.harness.encoding_clients import EncodingClient, GrpcClient, JsonClient, LibraryJsonClient
from lab.plugins.bench.harness.environment import Environment, cpu_seconds
from lab.plugins.bench.harness.payloads import (
    JSON_BYTES_CLAIMED,
    PROTOBUF_BYTES_CLAIMED,
    Payload,
    json_bytes,
    protobuf_bytes,
    sized_payload,
    talk_payload,
)
from lab.plugins.bench.harness.result import BenchResult, Claim, ResultTable
from lab.plugins.bench.harness.trials import Trials
from lab.plugins.bench.harness.variant import CLUSTER, MODEL, VERSION
from lab.report.bars import BarChart, Bound
from lab.transport.relay import relay_to
from models.json_mapping import from_document, parse
from models.proto.ranking.v1 import ranking_pb2

SIZES = {"0.4 KB": 400, "27 KB": 27_000, "0.5 MB": 500_000}
SECONDS = 0.3
"""Minimum duration of each measurement."""
LEAST_REQUESTS = 100
"""For latency; with fewer, the 99th percentile would be the maximum."""
IN_FLIGHT = 8
_FOLLOWING = 10

GRPC, REST, LIBRARY, CONTROL = "gRPC", "REST", "REST by aiohttp", "gRPC again"
ENCODINGS = (GRPC, REST, LIBRARY, CONTROL)
P50, P99 = "p50, ms", "p99, ms"
CLIENT_CPU, SERVER_CPU = "client CPU, s per 1,000", "server CPU, s per 1,000"
FIRST_UP, FIRST_DOWN = "first, to the model", "first, back"
UP, DOWN, BOTH_WAYS = "each further, to the model", "each further, back", "bytes a further request, both ways"
CODING = "request written and read, ms"
_COSTS = (P50, P99, CLIENT_CPU, SERVER_CPU, CODING)
_COMPARED = (P50, CLIENT_CPU, SERVER_CPU, CODING)
_FEW_BYTES = 2  # payloads at which REST costs a server in Python less processor time than gRPC
BODY = "body"
_WIRE = (FIRST_UP, FIRST_DOWN, UP, DOWN)

_REPLICA = f"{CLUSTER}-a"


def run(environment: Environment, rounds: int) -> BenchResult:
    """Calls one replica by each encoding, and by gRPC twice, with each payload once a round."""
    unit = environment.state.plan.unit(_REPLICA)
    assert unit.rest is not None  # noqa: S101 (every replica has one)
    grpc, rest = unit.address, unit.rest.outside
    addresses = {GRPC: grpc, CONTROL: grpc, REST: rest, LIBRARY: rest}
    pid = environment.state.running[unit.name].pid
    payloads = [talk_payload(), *(sized_payload(name, size) for name, size in SIZES.items())]
    by_name = {payload.name: payload for payload in payloads}
    for payload in payloads:
        uvloop.run(_check(addresses, payload))
    orders = [[*product(by_name, order)] for order in interleave(ENCODINGS, rounds)]
    trials = Trials(environment, orders)
    for trial in trials:
        name, encoding = trial.cell
        with trial:
            trial.keep(**uvloop.run(_measure(addresses[encoding], pid, by_name[name], encoding)))
    measured = {(*cell, what): values for (cell, what), values in trials.samples.items()}
    return _result(measured, payloads, rounds)


@asynccontextmanager
async def _client(encoding: str, address: str, payload: Payload) -> AsyncIterator[EncodingClient]:
    client: EncodingClient
    if encoding in {REST, LIBRARY}:
        client = (JsonClient if encoding == REST else LibraryJsonClient)(address, payload.document())
    else:
        client = GrpcClient(address, payload.message())
    try:
        yield client
    finally:
        await client.close()


async def _check(addresses: Mapping[str, str], payload: Payload) -> None:
    """Checks that all encodings carry the same request and get the same answer."""
    answers = []
    for encoding in (GRPC, REST, LIBRARY):
        async with _client(encoding, addresses[encoding], payload) as client:
            answers.append(await client.ask(0))
    by_rest = from_document(ranking_pb2.RankResponse, answers[1])
    if (
        answers[0] != by_rest
        or answers[1] != answers[2]
        or (by_rest.answered_by.model, by_rest.answered_by.version) != (MODEL, VERSION)
    ):
        raise UnitError(f"{payload.name}: {_REPLICA} answers {answers[0]} by gRPC and {by_rest} by REST")
    sent = from_document(ranking_pb2.RankRequest, _as_lists(payload.document()))
    if sent != payload.message()():
        raise UnitError(f"{payload.name}: the JSON and the protobuf request differ in meaning")


def _as_lists(document: dict[str, Any]) -> dict[str, Any]:
    """The document with lists of numbers in place of arrays."""
    titles = [{**title, "features": title.get("features", np.empty(0)).tolist()} for title in document["titles"]]
    return {**document, "titles": titles}


async def _measure(address: str, server: int, payload: Payload, encoding: str) -> dict[str, float]:
    """All figures of one encoding; ``server`` is the process that answers."""
    async with relay_to(address) as relay, _client(encoding, relay.address, payload) as client:
        await client.ask(0)
        first = await relay.settled()
        for _ in range(_FOLLOWING):
            await client.ask(0)
        following = (await relay.settled()).since(first, _FOLLOWING)
    async with _client(encoding, address, payload) as client:
        await client.ask(0)
        latencies = await _one_at_a_time(client)
        client_cpu, server_cpu = await _busy(client, server)
        return {
            BODY: client.request_bytes,
            **dict(zip(_WIRE, (*first, *following), strict=True)),
            BOTH_WAYS: sum(following),
            P50: latencies.value_at_ms(50),
            P99: latencies.value_at_ms(99),
            CLIENT_CPU: client_cpu,
            SERVER_CPU: server_cpu,
            CODING: _coding(payload, encoding),
        }


def _coding(payload: Payload, encoding: str) -> float:
    """Processor time of encoding and decoding one request without network, ms."""
    build, document = payload.message(), payload.document()
    read = ranking_pb2.RankRequest.FromString
    began, count = time.process_time(), 0
    while (spent := time.process_time() - began) < SECONDS / 10 or not count:
        if encoding in {REST, LIBRARY}:
            parse(ranking_pb2.RankRequest, _json(document))
        else:
            read(build().SerializeToString())
        count += 1
    return 1000 * spent / count


async def _one_at_a_time(client: EncodingClient) -> LatencyHistogram:
    """Latency of requests sent one at a time, so that none waits for another."""
    latencies = LatencyHistogram()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end or latencies.count < LEAST_REQUESTS:
        began = time.perf_counter_ns()
        await client.ask(0)
        latencies.record(time.perf_counter_ns() - began)
    return latencies


async def _busy(client: EncodingClient, server: int) -> tuple[float, float]:
    """Processor seconds that 1,000 requests cost client and server, with :data:`IN_FLIGHT` at once."""
    await asyncio.gather(*(client.ask(lane) for lane in range(IN_FLIGHT)))
    mine, its, asked, end = time.process_time(), cpu_seconds(server), 0, 0.0

    async def one_after_the_other(lane: int) -> int:
        count = 0
        while time.monotonic() < end:
            await client.ask(lane)
            count += 1
        return count

    # The kernel counts the server's processor time in hundredths of a second, so it must use at least one.
    while not asked or cpu_seconds(server) == its:
        end = time.monotonic() + 2 * SECONDS
        asked += sum(await asyncio.gather(*(one_after_the_other(lane) for lane in range(IN_FLIGHT))))
    return 1000 * (time.process_time() - mine) / asked, 1000 * (cpu_seconds(server) - its) / asked


def _result(
    measured: Mapping[tuple[str, str, str], Sequence[float]],
    payloads: Sequence[Payload],
    rounds: int,
) -> BenchResult:
    names = [payload.name for payload in payloads]

    def typical(payload: str, encoding: str, what: str) -> float:
        return median(measured[payload, encoding, what]).estimate

    def ratio(payload: str, what: str, encoding: str) -> Interval:
        return median_ratio(measured[payload, encoding, what], measured[payload, GRPC, what])

    wire = ResultTable(
        "bytes of TCP payload, headers and framing included; body: the encoded request alone",
        ("payload", "by", BODY, *_WIRE),
        [
            (name, encoding, *(f"{typical(name, encoding, what):,.0f}" for what in (BODY, *_WIRE)))
            for name in names
            for encoding in (GRPC, REST, LIBRARY)
        ],
        numbers=(BODY, *_WIRE),
    )
    costs = ResultTable(
        f"cost: latency of one request at a time; processor time with {IN_FLIGHT} in flight",
        ("payload", "by", *_COSTS),
        [
            (name, encoding, *(typical(name, encoding, what) for what in _COSTS))
            for name in names
            for encoding in ENCODINGS
        ],
        numbers=_COSTS,
    )
    ratios = ResultTable(
        "ratio to gRPC's figure, with 95 % intervals; control: gRPC against itself, whose interval should hold 1",
        ("payload", "figure", REST, LIBRARY, "control", "holds 1"),
        [
            (
                name,
                what,
                *(in_its_interval(ratio(name, what, encoding)) for encoding in ENCODINGS[1:]),
                "yes" if ratio(name, what, CONTROL).low <= 1 <= ratio(name, what, CONTROL).high else "no",
            )
            for name in names
            for what in (BOTH_WAYS, *_COSTS)
        ],
    )
    example = ResultTable(
        "the talk's example by itself, bytes",
        ("as", "the talk says", "it is"),
        [
            ("JSON", JSON_BYTES_CLAIMED, json_bytes()),
            ("protobuf", f"~{PROTOBUF_BYTES_CLAIMED}", protobuf_bytes()),
        ],
        numbers=("the talk says", "it is"),
    )
    timed = _timed(names)
    controls = {
        (what, name): control(
            f"{CONTROL} − {GRPC}, {what}, {name}",
            measured[name, GRPC, what],
            measured[name, CONTROL, what],
            among=len(timed),
        )
        for what, name in timed
    }
    claims = [Claim(f"REST / gRPC, {BOTH_WAYS}, {name}", ratio(name, BOTH_WAYS, REST), at_least=1.0) for name in names]
    claims += [
        Claim(
            f"REST / gRPC, {what}, {name}",
            ratio(name, what, REST),
            at_least=1.0 if name == names[-1] else None,
            at_most=None if name == names[-1] else 1.0,
            doubts=tuple(filter(None, [controls[what, name].doubt])),
        )
        for what, name in timed
    ]
    return BenchResult(
        unit=MIXED,
        controls=list(controls.values()),
        samples={", ".join(key): values for key, values in measured.items()},
        claims=claims,
        notes=[
            f"n = {rounds} rounds; an encoding a round: {SECONDS:g} s, {LEAST_REQUESTS} or more, one at a time",
            f"then {2 * SECONDS:g} s with {IN_FLIGHT} in flight, and {1 + _FOLLOWING} requests through a byte counter",
            "client and model share the machine's cores; requests and answers are plain Python values",
            *_where_rest_costs_less(names, ratio),
            _about_features(payloads),
        ],
        tables=[example, wire, costs, ratios],
        charts=[_chart(names, ratio, rounds)],
    )


def _timed(names: Sequence[str]) -> list[tuple[str, str]]:
    """The figures of time that are claimed, by payload: REST costs more at the largest, and less at small ones."""
    return [*product((P50,), names), *product((SERVER_CPU,), (*names[:_FEW_BYTES], names[-1]))]


def _where_rest_costs_less(names: Sequence[str], ratio: Callable[[str, str, str], Interval]) -> list[str]:
    """For each JSON client, the figures that are below gRPC's with their whole interval."""
    found = []
    for encoding in (REST, LIBRARY):
        less = [
            f"{name} ({', '.join(figures)})"
            for name in names
            if (figures := [what for what in _COMPARED if ratio(name, what, encoding).high < 1])
        ]
        found.append(f"{encoding} costs less than gRPC at: {'; '.join(less) or 'no payload'}")
    return found


def _about_features(payloads: Sequence[Payload]) -> str:
    features = np.concatenate([features for _, features in payloads[-1].titles])
    document = payloads[-1].document()["titles"]
    numbers = sum(len(_json(title["features"])) for title in document) / features.size
    encoded = len(base64.b64encode(features.tobytes())) / features.size
    return (
        f"features are arrays of numbers in JSON, by the mapping of `repeated float`: {numbers:.2f} bytes each "
        f"with the shortest digits, 4 in protobuf; in a field of `bytes` base64 would take {encoded:.2f}"
    )


def _json(features: Any) -> bytes:
    return orjson.dumps(features, option=orjson.OPT_SERIALIZE_NUMPY)


def _chart(names: Sequence[str], ratio: Callable[[str, str, str], Interval], rounds: int) -> BarChart:
    return chart_of_bars(
        "Cost of REST and JSON as a multiple of gRPC and protobuf",
        "multiple of gRPC's figure",
        {name: {what: ratio(name, what, REST) for what in (BOTH_WAYS, *_COMPARED)} for name in names},
        bounds=[Bound("the same", 1.0)],
        name="ratios",
        note=f"Medians over n = {rounds} rounds of REST / gRPC within a round, with 95 % intervals.",
    )


BENCH = Bench(
    name="encodings",
    question="What does JSON over REST cost against protobuf over gRPC?",
    run=run,
    controls=len(_timed([*SIZES, ""])),
)
