"""Small real servers for tests: a control plane that plays a script, a model, and both ends' odds and ends."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from envoy.service.discovery.v3 import ads_pb2_grpc
from envoy.service.load_stats.v3 import lrs_pb2_grpc
from grpc_health.v1._async import HealthServicer

from lab.client import Client, Endpoints
from lab.errors import RouteTableError
from lab.routing.keys import COPY, COPY_HEADER, HEADER, routing_key
from lab.routing.resilience import Policy
from lab.routing.rules import UseCase, policies
from lab.topologies import open_client
from lab.transport import RestServer, drain, is_serving, listen, new_server
from lab.transport.rpc_logs import RequestLog
from models.proto.control.v1 import gateway_pb2_grpc, resolver_pb2_grpc, rules_pb2, rules_pb2_grpc
from models.proto.fraud.v1 import fraud_pb2, fraud_pb2_grpc
from models.proto.ranking.v1 import ranking_pb2, ranking_pb2_grpc
from models.proto.serving.v1 import serving_pb2
from models.scoring import scores
from services.controlplane.xds.resources import endpoint_set_name
from services.controlplane.xds.service import Discovery, LoadReports
from services.controlplane.xds.store import ResourceStore
from services.gateway.forwarder import LOG_FIELDS, Forwarder
from services.gateway.info import GatewayInfo
from services.gateway.pool import Pool
from services.gateway.rest import rest_of
from services.gateway.shadow_sender import PoolShadowSender
from services.gateway.tenant_quota import Limiter
from services.resolver.service import Resolver
from services.rules import Subscriber
from tests.waiting import eventually

WITHIN_S = 15.0


def use_case(
    default: str, *, callers: tuple[str, ...] = ("homepage",), timeout: str = "5s", **more: Any
) -> dict[str, Any]:
    """A use case's document; ``default`` like ``cw-ranker@v1``."""
    return {"callers": list(callers), "api": "ranking.v1", "timeout": timeout, "default": default, **more}


def update(
    revision: int,
    *,
    use_cases: dict[str, dict[str, Any]] | None = None,
    endpoints: dict[str, list[str]] | None = None,
    versions: dict[str, dict[str, Any]] | None = None,
    full: bool = True,
    tenants: dict[str, dict[str, Any]] | None = None,
    removed_use_cases: Iterable[str] = (),
    removed_routing_keys: Iterable[str] = (),
    removed_endpoints: Iterable[str] = (),
) -> rules_pb2.RulesUpdate:
    """An update; model versions are made up from the use cases' references and the endpoints unless given."""
    message = rules_pb2.RulesUpdate(
        revision=revision,
        full=full,
        removed_use_cases=removed_use_cases,
        removed_routing_keys=removed_routing_keys,
        removed_endpoints=removed_endpoints,
    )
    for name, document in (use_cases or {}).items():
        message.use_cases.add(name=name, document=json.dumps(document).encode())
    if versions is None:
        documents = (use_cases or {}).values()
        references = [document["default"] for document in documents if "default" in document]
        references += [rule["use"] for document in documents for rule in document.get("rules", ()) if "use" in rule]
        references += [each for document in documents for each in document.get("fallback", ())]
        references += [document["shadow"]["use"] for document in documents if "shadow" in document]
        versions = {routing_key(*reference.split("@")): {} for reference in references}
        versions |= {key: {} for key in endpoints or {}}
    for key, parameters in versions.items():
        model, _, version = key.partition(".")
        message.model_versions.add(
            routing_key=key, model=model, version=version, parameters=json.dumps(parameters).encode()
        )
    if tenants is not None:
        message.tenants = json.dumps(tenants).encode()
    for key, addresses in (endpoints or {}).items():
        message.endpoints.add(routing_key=key, cluster="ml-cluster-1", addresses=addresses)
    return message


class ControlPlane(rules_pb2_grpc.RulesServicer):
    """Plays updates to whoever subscribes, and remembers what they say; by xDS it tells where each key is."""

    def __init__(self) -> None:
        self.store = ResourceStore()
        self.hellos: list[rules_pb2.SubscribeRequest] = []
        self.errors: dict[tuple[str, int], str] = {}
        self.address = "127.0.0.1:0"
        self.clusters_idle_after_s, self.clusters_unasked = 0.0, 0
        self._sequence = 0
        self._first: rules_pb2.RulesUpdate | None = None
        self._queues: dict[str, asyncio.Queue[rules_pb2.RulesUpdate]] = {}
        self._policies: dict[str, Policy] = {}

    async def Subscribe(self, request_iterator: Any, context: Any) -> AsyncIterator[rules_pb2.RulesUpdate]:  # noqa: N802
        del context
        hello = await anext(request_iterator)
        self.hellos.append(hello)
        queue = self._queues[hello.node] = asyncio.Queue()
        if self._first is not None:
            queue.put_nowait(self._first)
        listening = asyncio.create_task(self._listen(hello.node, request_iterator))
        try:
            while True:
                yield await queue.get()
        finally:
            listening.cancel()

    async def _listen(self, node: str, requests: AsyncIterator[rules_pb2.SubscribeRequest]) -> None:
        async for request in requests:
            self.errors[node, request.applied_sequence] = request.error

    def send(self, message: rules_pb2.RulesUpdate) -> int:
        """Sends an update to all; a full one is also what later subscribers begin with. Returns its sequence."""
        self._sequence += 1
        message.sequence = self._sequence
        if message.full:
            self._first = message
        self._place(message)
        for queue in self._queues.values():
            queue.put_nowait(message)
        return self._sequence

    def _place(self, message: rules_pb2.RulesUpdate) -> None:
        for each in message.use_cases:
            with suppress(RouteTableError):  # what subscribers are to refuse is no business of clusters
                self._policies |= policies([UseCase.of(each.name, json.loads(each.document))])
        keys = {each.routing_key for each in message.endpoints}
        self.store.update(
            clusters={each.routing_key: each.cluster for each in message.endpoints},
            policies={key: policy for key, policy in self._policies.items() if key in keys},
            endpoint_sets={
                endpoint_set_name(each.cluster, each.routing_key): each.addresses for each in message.endpoints
            },
            standby={endpoint_set_name(each.cluster, each.routing_key): each.standby for each in message.endpoints},
            removed_clusters=message.removed_endpoints,
        )

    async def answered(self, node: str, sequence: int) -> str:
        """What the node said to an update: empty if it applied it."""
        await eventually(f"{node} answers update {sequence}", lambda: (node, sequence) in self.errors)
        return self.errors[node, sequence]

    async def put_in_force(self, message: rules_pb2.RulesUpdate, *nodes: str) -> None:
        """Sends an update and waits until the nodes have applied it."""
        sequence = self.send(message)
        await self.store.subscribers.wait_applied(self.store.subscribers.generation, timeout_s=WITHIN_S)
        for node in nodes:
            assert await self.answered(node, sequence) == ""

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        """Serves, at the same address each time."""
        server, _ = new_server()
        rules_pb2_grpc.add_RulesServicer_to_server(self, server)
        discovery = Discovery(self.store, self.clusters_idle_after_s, clusters_unasked=self.clusters_unasked)
        ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(discovery, server)
        lrs_pb2_grpc.add_LoadReportingServiceServicer_to_server(LoadReports(discovery), server)
        port = listen(server, self.address)
        self.address = f"127.0.0.1:{port}"
        await server.start()
        try:
            yield
        finally:
            self._queues.clear()
            await server.stop(0)


class Model(ranking_pb2_grpc.RankingServicer, fraud_pb2_grpc.FraudServicer):
    """A replica that holds some model versions, refuses the others, and says who it is."""

    health: HealthServicer

    def __init__(self, *holds: str, replica: str = "r1") -> None:
        self.holds = set(holds)
        self.replica = replica
        self.address = "127.0.0.1:0"
        self.seen: list[tuple[serving_pb2.Envelope, dict[str, str]]] = []
        self.deadlines_s: list[float | None] = []
        self.failure: tuple[grpc.StatusCode, str] | None = None
        self.failures: dict[str, tuple[grpc.StatusCode, str]] = {}
        self.break_after: int | None = None
        self.payload_floats = 0
        self.before_answer: Callable[[], Awaitable[object]] | None = None
        self.before_next_item: Callable[[], Awaitable[object]] | None = None

    async def _answered_by(self, envelope: serving_pb2.Envelope, context: Any) -> serving_pb2.AnsweredBy:
        metadata = dict(context.invocation_metadata())
        self.seen.append((envelope, metadata))
        self.deadlines_s.append(context.time_remaining())
        if self.before_answer is not None:
            await self.before_answer()
        if self.failure is not None:
            await context.abort(*self.failure)
        config = envelope.model_config
        key = routing_key(config.model, config.version)
        if metadata.get(HEADER) in self.failures:
            await context.abort(*self.failures[metadata[HEADER]])
        if metadata.get(COPY_HEADER) != COPY and (metadata.get(HEADER) != key or key not in self.holds):
            reason = f"{self.replica} holds {sorted(self.holds)}: header {metadata.get(HEADER)}, body {key}"
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, reason)
        return serving_pb2.AnsweredBy(
            cluster="ml-cluster-1",
            model=config.model,
            version=config.version,
            replica=self.replica,
            revision=1,
            traffic_origin=envelope.context.traffic_origin,
            tenant=envelope.context.tenant,
        )

    def _titles(self, request: ranking_pb2.RankRequest) -> list[ranking_pb2.RankedTitle]:
        config, ids = request.envelope.model_config, [title.id for title in request.titles]
        ranked = zip(scores(config.model, config.version, request.envelope.context.user_id, ids), ids, strict=True)
        return [ranking_pb2.RankedTitle(id=id_, score=score) for score, id_ in sorted(ranked, reverse=True)]

    async def Rank(self, request: ranking_pb2.RankRequest, context: Any) -> ranking_pb2.RankResponse:  # noqa: N802
        self.payload_floats = sum(len(title.features) for title in request.titles)
        by = await self._answered_by(request.envelope, context)
        return ranking_pb2.RankResponse(answered_by=by, titles=self._titles(request))

    async def RankStream(self, request: Any, context: Any) -> AsyncIterator[ranking_pb2.RankStreamResponse]:  # noqa: N802
        by = await self._answered_by(request.envelope, context)
        for number, title in enumerate(self._titles(request)):
            if number == self.break_after:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "broken off")
            if number and self.before_next_item is not None:
                await self.before_next_item()
            yield ranking_pb2.RankStreamResponse(answered_by=by, title=title)

    async def Score(self, request: fraud_pb2.ScoreRequest, context: Any) -> fraud_pb2.ScoreResponse:  # noqa: N802
        by = await self._answered_by(request.envelope, context)
        user = request.envelope.context.user_id
        [score] = scores(by.model, by.version, user, [request.payment.id])
        return fraud_pb2.ScoreResponse(answered_by=by, payment_id=request.payment.id, score=score)

    @asynccontextmanager
    async def up(self, *, drained: bool = False) -> AsyncIterator[Model]:
        """Serves, at the same address each time; ends suddenly, or as a replica does that is told to."""
        server, self.health = new_server()
        ranking_pb2_grpc.add_RankingServicer_to_server(self, server)
        fraud_pb2_grpc.add_FraudServicer_to_server(self, server)
        self.address = f"127.0.0.1:{listen(server, self.address)}"
        await server.start()
        try:
            yield self
        finally:
            await (drain(server, self.health, grace_s=10) if drained else server.stop(0))


def rank_request() -> ranking_pb2.RankRequest:
    """Ten titles."""
    return ranking_pb2.RankRequest(titles=[ranking_pb2.Title(id=f"t{number:02}") for number in range(10)])


class Hold:
    """Holds requests until they are cancelled.

    Attributes:
        begun: a request has come.
        ended: a request was cancelled.
    """

    def __init__(self) -> None:
        self.begun, self.ended = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


@asynccontextmanager
async def running(subscriber: Subscriber) -> AsyncIterator[None]:
    """Lets a subscriber follow its control plane for the block."""
    following = asyncio.create_task(subscriber.run())
    try:
        yield
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


@asynccontextmanager
async def client_of(topology: str, **addresses: tuple[str, ...]) -> AsyncIterator[Client]:
    """A client of the caller homepage that is ready; addresses are by role."""
    client = open_client(topology, "homepage", Endpoints(addresses))
    try:
        await client.ready()
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def resolver_up(
    control_plane: str, *, address: str = "127.0.0.1:0", owner: str | None = "homepage", **lease: float
) -> AsyncIterator[str]:
    """A resolver named ``resolver`` in this process; gives its address."""
    lease = {"lease_ttl_s": 30, "max_stale_s": 300} | lease
    resolver = Resolver(name="resolver", owner=owner, **lease)
    server, _ = new_server()
    resolver_pb2_grpc.add_ResolverServicer_to_server(resolver, server)
    port = listen(server, address)
    await server.start()
    subscriber = Subscriber(node="resolver", role="resolver", control_plane=control_plane, apply=resolver.put_in_force)
    try:
        async with running(subscriber):
            yield f"127.0.0.1:{port}"
    finally:
        resolver.close()
        await server.stop(0)


@asynccontextmanager
async def gateway_up(
    control_plane: str,
    *,
    name: str = "gateway",
    log: Path | None = None,
    copies_limit: int = 128,
    rest_ports: list[int] | None = None,
    replicas: int = 1,
) -> AsyncIterator[str]:
    """A gateway in this process; gives its address, and appends to ``rest_ports``, if given, where it serves REST."""
    access_log, pool = RequestLog(log, LOG_FIELDS), Pool()
    shadows = PoolShadowSender(pool, copies_limit)
    forwarder = Forwarder(name=name, pool=pool, access_log=access_log, shadows=shadows, limiter=Limiter(replicas))
    server, healthy = new_server(handlers=[forwarder])
    gateway_pb2_grpc.add_GatewayServicer_to_server(GatewayInfo(forwarder, shadows), server)
    port = listen(server, "127.0.0.1:0")
    rest = RestServer(rest_of(forwarder, lambda: is_serving(healthy)))
    if rest_ports is not None:
        rest_ports.append(rest.listen("127.0.0.1:0"))
    await server.start()
    subscriber = Subscriber(
        node=name, role="gateway", control_plane=control_plane, apply=forwarder.put_in_force, with_endpoints=True
    )
    try:
        async with running(subscriber):
            yield f"127.0.0.1:{port}"
    finally:
        await rest.close()
        await server.stop(0)
        access_log.close()
        await pool.close()


class Relay:
    """Another way to a server. Its connections can be late, and frozen: then they stay open, and nothing passes.

    Args:
        target: ``host:port`` of the server, or a connection to it for the one that comes.
        late_s: seconds for which a connection has to be there before anything passes.

    Attributes:
        address: where the way begins.
        came: when each connection did, by the monotonic clock.
    """

    def __init__(self, target: str | socket.socket, late_s: float = 0.0) -> None:
        self.address = ""
        self.came: list[float] = []
        self._target, self._late_s = target, late_s
        self._server: asyncio.Server
        self._writers: list[asyncio.StreamWriter] = []
        self._relays: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Relay]:
        """Leads there until the context ends."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            self.freeze()
            self._server.close()
            for writer in self._writers:
                writer.close()
            await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    def freeze(self) -> None:
        """Connections made later pass again."""
        for relay in self._relays:
            relay.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came.append(time.monotonic())
        await asyncio.sleep(self._late_s)
        there_reader, there_writer = await self._open()
        self._writers += (writer, there_writer)
        for source, sink in ((reader, there_writer), (there_reader, writer)):
            relay = asyncio.create_task(self._relay(source, sink))
            self._relays.add(relay)
            relay.add_done_callback(self._relays.discard)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, socket.socket):
            return await asyncio.open_connection(sock=self._target)
        host, _, port = self._target.rpartition(":")
        return await asyncio.open_connection(host, int(port))

    async def _relay(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
        sink.close()


@pytest.fixture
async def control_plane() -> AsyncIterator[ControlPlane]:
    plane = ControlPlane()
    async with plane.up():
        yield plane


@pytest.fixture
async def model() -> AsyncIterator[Model]:
    async with Model("rows.v1", "rows.v2").up() as running:
        yield running
