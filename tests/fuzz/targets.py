"""What takes in bytes that others made, and what it may answer to the wrong ones: its own error, with the remedy.

A target takes bytes and returns, or raises what it must never raise. Each brings seeds, whole inputs from which wrong
ones are made.
"""

import asyncio
import logging
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import DecodeError

from lab.errors import CallError, RouteTableError, RunError, TraceError
from lab.history import read_parquet, write_parquet
from lab.history.record import FIELD_TYPES, record_of
from lab.load.trace import read_trace
from lab.routing.compiled import Router
from lab.routing.document import Source, read_sources
from lab.routing.keys import is_routing_key, version_key
from lab.transport.rest_server import HttpReply, HttpRequest
from models.apis import METHODS
from models.context import read_context
from models.json_mapping import parse, serialise
from models.proto.control.v1 import admin_pb2, faults_pb2, replicas_pb2, resolver_pb2, rules_pb2, stub_pb2
from models.proto.fraud.v1 import fraud_pb2
from models.proto.ranking.v1 import ranking_pb2
from models.proto.serving.v1 import serving_pb2
from models.rest import Resource, Rest
from models.stub.admission import LoadedVersion, Refused, select
from services.controlplane.nodes.subscribers import Subscriber
from services.controlplane.xds.delta import DeltaStream
from services.controlplane.xds.resources import CLUSTER, ENDPOINTS, LISTENER
from services.controlplane.xds.sotw import SotwStream
from services.controlplane.xds.store import ResourceStore
from tests.fuzz.files import (
    COMMAND_SEEDS,
    SPEC_SEEDS,
    STATE_SEEDS,
    command_line,
    run_folder,
    run_seeds,
    spec_file,
    state_file,
)
from tests.fuzz.servers import METHODS as METHODS_OF_SERVERS
from tests.fuzz.servers import servers

KEY = "cw-ranker.v1"
_TABLE = """
use_cases:
  ContinueWatchingRanking:
    callers: [homepage]
    api: ranking.v1
    timeout: 250ms
    default: cw-ranker@v1
    rules:
      - {name: tv, when: {device: [tv], not: {country: [US]}}, use: cw-ranker@v2}
      - {name: ab, experiment: {id: 1, unit: user_id, cells: {1: {weight: 80, use: cw-ranker@v1}, 2: {weight: 20, use: cw-ranker@v2}}}}
      - {name: canary, split: {unit: user_id, weights: {cw-ranker@v1: 95, cw-ranker@v2: 5}}}
    shadow: {use: cw-ranker@v2, percent: 10}
    fallback: [cw-ranker@v1]
models:
  cw-ranker: {versions: {v1: {cluster: a}, v2: {cluster: a, config: {diversity: 0.2}}}}
clusters:
  a: &a {replicas: 2}
  b: *a
"""  # noqa: E501 (as a user would write it)
_MESSAGES: tuple[Any, ...] = (
    ranking_pb2.RankRequest,
    fraud_pb2.ScoreRequest,
    resolver_pb2.ResolveRequest,
    resolver_pb2.WatchRequest,
    rules_pb2.SubscribeRequest,
    rules_pb2.RulesUpdate,
    replicas_pb2.ReplicaReport,
    admin_pb2.PublishRequest,
    admin_pb2.PublishChangeRequest,
    admin_pb2.RollbackRequest,
    faults_pb2.OfferRequest,
    stub_pb2.Behaviour,
    serving_pb2.Envelope,
    discovery_pb2.DeltaDiscoveryRequest,
    discovery_pb2.DiscoveryRequest,
)


@dataclass(frozen=True, slots=True)
class Target:
    """Something that reads.

    Attributes:
        take: reads.
        seeds: what it should be able to read.
        guided: whether coverage may guide its inputs; not where a loop, threads or files hide what one input reached.
        cases: how many wrong inputs to try in a run of the suite, where a million of them are shared out likewise.
    """

    take: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    cases: int = 1_500
    guided: bool = True


@cache
def _scratch() -> Path:
    """A file of this process."""
    shared = Path("/dev/shm")  # noqa: S108 (memory, and the name that follows is nobody else's)
    folder = tempfile.mkdtemp(prefix="fuzz-", dir=shared if os.access(shared, os.W_OK) else None)
    return Path(folder) / "input"


def _route_file(data: bytes) -> None:
    try:
        table = read_sources([Source("routes.yaml", data.decode(errors="replace"))])
        Router.of_document(table.document, revision=1)
    except RouteTableError:
        return


def _trace_file(data: bytes) -> None:
    path = _scratch()
    path.write_bytes(data)
    try:
        for row in read_trace(path, limit=50):
            assert row.payload_bytes >= 0
    except TraceError:
        return


def _history_file(data: bytes) -> None:
    path = _scratch()
    path.write_bytes(data)
    try:
        read_parquet(path)
    except RunError:
        return


def _messages(data: bytes) -> None:
    """The first byte says which message."""
    try:
        message = _MESSAGES[(data[0] if data else 0) % len(_MESSAGES)].FromString(data[1:])
    except DecodeError:
        return
    if "envelope" in message.DESCRIPTOR.fields_by_name:
        _contexts(message.envelope.context)
    if isinstance(message, admin_pb2.PublishRequest):
        try:
            read_sources([Source(each.name, each.text) for each in message.sources])
        except RouteTableError:
            return


def _contexts(context: serving_pb2.RequestContext) -> None:
    with suppress(ValueError):  # a traffic origin that there is not, which every server turns into INVALID_ARGUMENT
        read_context(context)


_HELD = {KEY: LoadedVersion(KEY, "cw-ranker", "v1", serving_pb2.AnsweredBy())}


def _header_values(data: bytes) -> None:
    """Values of a model's routing key header and of its body's model, part by part."""
    model, version, *keys = (part.decode("latin-1") for part in data.split(b"\n", 5)[:6]) if b"\n" in data else ("", "")
    for key in keys:
        if is_routing_key(key):
            name, _, number = version_key(key).partition(".v")
            assert name.isascii()
            assert number.isdigit()
            assert len(key) <= 63 + 2 + 9 + 4
    try:
        assert select(model, version, keys, _HELD, "r1").routing_key == KEY
    except Refused:
        return


async def _answers(_request: Any, _context: Any) -> Any:
    return ranking_pb2.RankResponse()


async def _ready() -> bool:
    return True


_RANK = METHODS["/ranking.v1.Ranking/Rank"]
_REST = Rest(
    handlers=lambda _: _answers,
    find=lambda path: Resource(_RANK) if path == "/v1/ranking:rank" else None,
    paths="/v1/ranking:rank",
    ready=_ready,
)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    logging.getLogger("models.rest").disabled = True
    return asyncio.new_event_loop()


def _rest_request(data: bytes) -> None:
    """A request line, headers, an empty line, a body, as on the wire."""
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.decode("latin-1").split("\n")
    method, _, target = first.partition(" ")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]

    async def read() -> bytes:
        return body

    reply: HttpReply = _loop().run_until_complete(_REST(HttpRequest(method, target, headers, read)))
    assert reply.status != 500, reply.body


def _json_body(data: bytes) -> None:
    try:
        message = parse(ranking_pb2.RankRequest, data)
    except CallError:
        return
    serialise(message)


def _store() -> ResourceStore:
    store = ResourceStore()
    store.update(clusters={KEY: "ml-cluster-1"}, endpoint_sets={f"ml-cluster-1/{KEY}": ["127.0.0.1:1"]})
    return store


def _stream(request_class: Any, stream: Any, store: ResourceStore, data: bytes) -> None:
    """Requests one behind the other, each after its length; between them the node is told what there is to be told."""
    while len(data) > 1:
        length, data = int.from_bytes(data[:2], "big"), data[2:]
        try:
            request = request_class.FromString(data[:length])
        except DecodeError:
            return
        data = data[length:]
        stream.receive(request)
        for response in stream.responses():
            response.SerializeToString()
    store.update(clusters={KEY: "ml-cluster-2"}, endpoint_sets={f"ml-cluster-2/{KEY}": ["127.0.0.1:2"]})
    stream.responses()


def _delta_requests(data: bytes) -> None:
    store = _store()
    subscriber = Subscriber("homepage-sidecar", "sidecar")
    stream = DeltaStream(store, subscriber)
    store.add_listener(stream)
    _stream(discovery_pb2.DeltaDiscoveryRequest, stream, store, data)


def _sotw_requests(data: bytes) -> None:
    store = _store()
    subscriber = Subscriber("homepage-proxyless-1", "proxyless")
    stream = SotwStream(store, subscriber, "homepage")
    store.add_listener(stream)
    _stream(discovery_pb2.DiscoveryRequest, stream, store, data)


def _one_behind_the_other(*messages: Any) -> bytes:
    bodies = [each.SerializeToString() for each in messages]
    return b"".join(len(each).to_bytes(2, "big") + each for each in bodies)


def _history_seed() -> bytes:
    path = _scratch()
    record = record_of(tuple(kind("1") for kind in FIELD_TYPES))
    write_parquet([record, replace(record, sequence=2)], path)
    return path.read_bytes()


def _message_seeds() -> tuple[bytes, ...]:
    rank = ranking_pb2.RankRequest(titles=[ranking_pb2.Title(id="t1", features=[0.5, 1])])
    rank.envelope.context.user_id, rank.envelope.context.traffic_origin = "u1", serving_pb2.TRAFFIC_ORIGIN_REAL
    publish = admin_pb2.PublishRequest(sources=[admin_pb2.SourceFile(name="r.yaml", text=_TABLE)])
    report = replicas_pb2.ReplicaReport(cluster="a", replica="a-a", address="127.0.0.1:1", loaded=[KEY])
    known = {type(each): each.SerializeToString() for each in (rank, publish, report)}
    return tuple(bytes([number]) + known.get(each, b"\n\x01x") for number, each in enumerate(_MESSAGES))


def _delta_seed() -> bytes:
    request = discovery_pb2.DeltaDiscoveryRequest
    return _one_behind_the_other(
        request(type_url=CLUSTER, resource_names_subscribe=[KEY, "*", "xds"]),
        request(type_url=CLUSTER, response_nonce="1"),
        request(
            type_url=ENDPOINTS,
            resource_names_subscribe=[f"ml-cluster-1/{KEY}"],
            initial_resource_versions={"a": "1"},
        ),
        request(type_url=CLUSTER, resource_names_unsubscribe=[KEY]),
    )


def _sotw_seed() -> bytes:
    request = discovery_pb2.DiscoveryRequest
    return _one_behind_the_other(
        request(type_url=LISTENER, resource_names=["models"]),
        request(type_url=LISTENER, resource_names=["models"], response_nonce="1", version_info="1"),
        request(type_url=CLUSTER, resource_names=[KEY, "*"]),
        request(type_url=ENDPOINTS, resource_names=[f"ml-cluster-1/{KEY}"]),
    )


def _rpc(data: bytes) -> None:
    """The first byte says which method of a real server is sent the others."""
    servers().ask(METHODS_OF_SERVERS[(data[0] if data else 0) % len(METHODS_OF_SERVERS)], data[1:])


def _rpc_seeds() -> tuple[bytes, ...]:
    bodies = [each[1:] for each in _message_seeds()]
    return tuple(bytes([number]) + body for number in range(len(METHODS_OF_SERVERS)) for body in bodies)


_TRACE = b"""TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.0319600,3180,8
"""
_BODY = (
    b'{"envelope":{"context":{"userId":"u1","trafficOrigin":"TRAFFIC_ORIGIN_REAL"}},'
    b'"titles":[{"id":"t1","features":[0.5,1e3]}]}'
)
_HEAD = b"POST /v1/ranking:rank\ncontent-type: application/json\ngrpc-timeout: 250m\nx-routing-key: cw-ranker.v1\n\n"
_HTTP = _HEAD + _BODY

TARGETS: dict[str, Target] = {
    "route-file": Target(_route_file, (_TABLE.encode(),), cases=600),
    "trace-file": Target(_trace_file, (_TRACE,), cases=600),
    "history-file": Target(_history_file, (_history_seed(),), cases=200),
    "messages": Target(_messages, _message_seeds()),
    "header-values": Target(_header_values, (b"cw-ranker\nv1\ncw-ranker.v1", b"\n\ncw-ranker.v1\nrows.v1")),
    "rest-request": Target(_rest_request, (_HTTP,)),
    "json-body": Target(_json_body, (_BODY,)),
    "delta-requests": Target(_delta_requests, (_delta_seed(),)),
    "sotw-requests": Target(_sotw_requests, (_sotw_seed(),)),
    "spec-file": Target(spec_file, SPEC_SEEDS, cases=200, guided=False),
    "run-folder": Target(run_folder, run_seeds(), cases=40, guided=False),
    "state-file": Target(state_file, STATE_SEEDS, cases=300, guided=False),
    "command-line": Target(command_line, COMMAND_SEEDS, cases=400, guided=False),
    "rpc": Target(_rpc, _rpc_seeds(), cases=300, guided=False),
}
