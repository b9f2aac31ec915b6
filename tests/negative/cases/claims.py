"""Those who have a certificate of the lab, and say that they are somebody else, or ask for what is not theirs."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from google.protobuf.struct_pb2 import Struct

from lab.client import Endpoints
from lab.client.call import call
from lab.errors import CallError, DeadlineError
from lab.identity import Identity
from lab.topologies import open_client
from lab.transport import open_blocking_channel
from lab.transport.security import MTLS, Security
from lab.transport.xds import LISTENER
from lab.waiting import eventually
from models.proto.control.v1 import (
    replicas_pb2,
    replicas_pb2_grpc,
    resolver_pb2,
    resolver_pb2_grpc,
    rules_pb2,
    rules_pb2_grpc,
)
from models.proto.ranking.v1 import ranking_pb2
from services.controlplane.nodes.admission import MAX_STREAMS
from services.controlplane.xds.resources import LISTENER as LISTENER_TYPE
from tests.negative.scene import (
    KEY,
    MODEL,
    OURS,
    SOON,
    THEIR_KEY,
    THEIR_MODEL,
    THEIRS,
    Case,
    NotRefusedError,
    Scene,
    envelope_header,
    rank,
)
from tests.negative.wire import Answer

_CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
_S = 5.0


def answer_to(ask: Callable[[], object]) -> Answer:
    try:
        ask()
    except grpc.RpcError as error:
        return Answer(error.code().name, error.details() or "")
    return Answer("OK", "")


def _claims_node(unit: str, node: str, caller: str, role: str) -> Callable[[Scene], Answer]:
    """By xDS: somebody else's clusters."""

    def attempt(scene: Scene) -> Answer:
        metadata = Struct()
        metadata.update({"role": role})
        who = base_pb2.Node(id=node, cluster=caller, metadata=metadata)
        with open_blocking_channel(scene.units["control-plane"], scene.security(unit)) as channel:
            stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
            if role == "proxyless":
                whole = discovery_pb2.DiscoveryRequest(node=who, type_url=_CLUSTER)
                return answer_to(lambda: next(stub.StreamAggregatedResources(iter([whole]), timeout=_S), None))
            theirs = [THEIR_KEY.decode()]
            first = discovery_pb2.DeltaDiscoveryRequest(node=who, type_url=_CLUSTER, resource_names_subscribe=theirs)
            return answer_to(lambda: next(stub.DeltaAggregatedResources(iter([first]), timeout=_S), None))

    return attempt


def _opens_streams(scene: Scene) -> Answer:
    """One after the other by xDS, each with a name that a process of the caller could have."""
    opened: list[Any] = []

    def another() -> None:
        node = base_pb2.Node(id=f"homepage-proxyless-{len(opened):06x}", cluster="homepage")
        asked: queue.SimpleQueue[discovery_pb2.DiscoveryRequest | None] = queue.SimpleQueue()
        asked.put(discovery_pb2.DiscoveryRequest(node=node, type_url=LISTENER_TYPE, resource_names=[LISTENER]))
        stream = stub.StreamAggregatedResources(iter(asked.get, None))
        opened.append(stream)
        next(stream)

    with open_blocking_channel(scene.units["control-plane"], scene.security("homepage")) as channel:
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
        answers = (answer_to(another) for _ in range(2 * MAX_STREAMS))
        return next((each for each in answers if each.status != "OK"), Answer("OK", ""))


def _is_one_gateway_more(scene: Scene) -> Answer:
    """With a certificate of the lab's authority."""
    security = scene.made_up("gateway-9", Identity("gateway", "gateway-9"))
    with open_blocking_channel(scene.units["control-plane"], security) as channel:
        hello = rules_pb2.SubscribeRequest(node="gateway-9", role="gateway", with_endpoints=True)
        return answer_to(lambda: next(rules_pb2_grpc.RulesStub(channel).Subscribe(iter([hello]), timeout=_S), None))


def _claims_rules(scene: Scene) -> Answer:
    with open_blocking_channel(scene.units["control-plane"], scene.security("homepage-resolver")) as channel:
        hello = rules_pb2.SubscribeRequest(node="gateway-1", role="gateway", with_endpoints=True)
        return answer_to(lambda: next(rules_pb2_grpc.RulesStub(channel).Subscribe(iter([hello]), timeout=_S), None))


def _asks_gateway(use_case: str, caller: str) -> Callable[[Scene], Answer]:
    return lambda scene: scene.ask("gateway-1", body=rank(use_case, caller))


def _adds_envelope(body: bytes) -> Callable[[Scene], Answer]:
    """The answer says which tenant the model saw."""

    def attempt(scene: Scene) -> Answer:
        answer = scene.ask("gateway-1", envelope_header(), body=body)
        by = ranking_pb2.RankResponse.FromString(answer.body).answered_by
        reason = f"the model saw tenant {by.tenant!r}" if by.tenant else _NOT_READ
        return Answer(answer.status, reason if by.model else answer.reason)

    return attempt


def _names_tenant(unit: str, *in_headers: bytes) -> Callable[[Scene], Answer]:
    """Another caller's, in the body; and in as many headers as are given."""
    headers = [(b"x-tenant", each) for each in in_headers]
    return lambda scene: scene.ask(unit, KEY, *headers, body=rank(tenant="ads"))


def _watches_resolver(scene: Scene) -> Answer:
    """Another caller's, to hear of each revision, and to keep it waiting for acknowledgements."""
    first = resolver_pb2.WatchRequest(sent=1.0)
    with open_blocking_channel(scene.units["homepage-resolver"], scene.security("search")) as channel:
        return answer_to(lambda: next(resolver_pb2_grpc.ResolverStub(channel).Watch(iter([first]), timeout=_S), None))


def _asks_resolver(unit: str, use_case: str, caller: str) -> Callable[[Scene], Answer]:
    def attempt(scene: Scene) -> Answer:
        request = resolver_pb2.ResolveRequest(use_case=use_case)
        request.context.caller = caller
        with open_blocking_channel(scene.units["homepage-resolver"], scene.security(unit)) as channel:
            return answer_to(lambda: resolver_pb2_grpc.ResolverStub(channel).Resolve(request, timeout=_S))

    return attempt


def _report(address: str) -> replicas_pb2.ReplicaReport:
    return replicas_pb2.ReplicaReport(
        cluster="ml-cluster-2", replica=THEIR_MODEL, address=address, loaded=[THEIR_KEY.decode()], revision=1
    )


def _replays_registration(scene: Scene) -> Answer:
    """Word for word what a replica has said, by one of another cluster."""
    with open_blocking_channel(scene.units["control-plane"], scene.security("ml-cluster-1-a")) as channel:
        stub = replicas_pb2_grpc.ReplicasStub(channel)
        return answer_to(lambda: next(stub.Register(iter([_report(scene.units[THEIR_MODEL])]), timeout=_S), None))


def _server_of(service: str, method: str, behaviour: Callable[[bytes, Any], bytes]) -> grpc.Server:
    handler: Any = grpc.unary_unary_rpc_method_handler(behaviour)
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {method: handler})])
    return server


def _require_silence(asked: list[object]) -> None:
    if asked:
        raise NotRefusedError(Answer("OK", "the impostor was asked"))


@contextmanager
def _impostor(scene: Scene) -> Iterator[str]:
    """A model of another cluster, at an address at which one of ``ml-cluster-2`` is believed to be."""
    asked = list[object]()

    def rank_anyway(_request: bytes, context: Any) -> bytes:
        asked.append(context.auth_context())
        return b""

    server = _server_of("ranking.v1.Ranking", "Rank", rank_anyway)
    security = Security(MTLS, scene.made_up("impostor", Identity("model", "ml-cluster-1")).folder)
    credentials = security.server_credentials()
    assert credentials is not None
    address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
    server.start()
    done = threading.Event()

    def reports() -> Iterator[replicas_pb2.ReplicaReport]:
        yield _report(address)
        while not done.wait(0.2):
            yield _report(address)

    scene.lab.units.kill(THEIR_MODEL)
    try:
        with open_blocking_channel(scene.units["control-plane"], scene.security("operator")) as channel:
            assignments = replicas_pb2_grpc.ReplicasStub(channel).Register(reports())
            next(assignments)
            yield address
            done.set()
            assignments.cancel()
        _require_silence(asked)
    except DeadlineError:
        _require_silence(asked)
        raise
    finally:
        done.set()
        server.stop(0)
        scene.lab.units.start(THEIR_MODEL)


def _answers_as_another(unit: str) -> Callable[[Scene], Answer]:
    """Of Envoy's reason the client learns no more than that there was no connection: it is counted."""

    def attempt(scene: Scene) -> Answer:
        body, caller = rank(THEIRS, "search"), scene.security("search")
        counter = f"cluster.{THEIR_KEY.decode()}.ssl.fail_verify_san"

        def ask() -> Answer:
            with scene.connect(unit, caller) as wire:
                return wire.ask((KEY[0], THEIR_KEY), body=body)

        with _impostor(scene):
            before = scene.counted(unit, counter)
            refused = eventually(
                "the impostor is turned away",
                ask,
                within=SOON,
                until=lambda it: it.status != "OK" and scene.counted(unit, counter) > before,
            )
        eventually("the model is back", ask, within=SOON, until=lambda it: it.status == "OK")
        return Answer(refused.status, counter)

    return attempt


def _answers_as_another_to_grpc(way: str, why: str) -> Callable[[Scene], Answer]:
    """Where gRPC itself speaks to the model, it says why it does not."""

    def attempt(scene: Scene) -> Answer:
        def ask() -> Answer:
            try:
                call(scene.lab.endpoints().callers["search"], THEIRS, way, {"user_id": "u1"})
            except CallError as error:
                return Answer(error.code.name, error.message)
            return Answer("OK", "")

        with _impostor(scene):
            refused = eventually("it is turned away", ask, within=SOON, until=lambda it: why in it.reason)
        eventually("the model is back", ask, within=SOON, until=lambda it: it.status == "OK")
        return Answer(refused.status, why)

    return attempt


_NOT_THE_ONE = "Hostname Verification Check failed"
_NOT_AMONG_THEM = "SANs from certificate did not match SANs from xDS control plane"


@contextmanager
def _lying_resolver() -> Iterator[str]:
    """One that hands out another caller's key."""

    def resolve(_request: bytes, _context: Any) -> bytes:
        decision = resolver_pb2.Decision(routing_key=THEIR_KEY.decode(), revision=1)
        decision.model_config.model, decision.model_config.version = "search-ranker", "v1"
        decision.timeout.FromMilliseconds(5_000)
        return decision.SerializeToString()

    server = _server_of("control.v1.Resolver", "Resolve", resolve)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield address
    finally:
        server.stop(0)


def _believes_its_resolver(scene: Scene) -> Answer:
    """The caller's own client, which does what it is told."""

    async def ask(resolver: str) -> Answer:
        endpoints = Endpoints({"resolver": (resolver,), "sidecar": (scene.units["homepage-sidecar"],)})
        client = open_client("mesh-unleased", "homepage", endpoints, security=Security())
        try:
            await client.call(OURS, ranking_pb2.RankRequest(titles=[ranking_pb2.Title(id="t1")]), {"user_id": "u1"})
        except CallError as error:
            return Answer(error.code.name, error.message)
        finally:
            await client.close()
        return Answer("OK", "")

    with _lying_resolver() as resolver:
        return asyncio.run(ask(resolver))


_DENIED, _INVALID = "PERMISSION_DENIED", "INVALID_ARGUMENT"
_NODE, _NOT_OURS = "may not be node", "may not name tenant 'ads'"
_ONE_TENANT = "x-tenant: send none or exactly one"
_NOT_READ = "the model saw the header's envelope only"
_ONLY = "is for caller homepage only"

CLAIMS = (
    Case(
        "a sidecar that claims to be another one",
        "mesh",
        "control-plane",
        _DENIED,
        f"{_NODE} 'search-sidecar'",
        _claims_node("homepage-sidecar", "search-sidecar", "search", "sidecar"),
    ),
    Case(
        "a proxyless client that claims to be another caller",
        "proxyless",
        "control-plane",
        _DENIED,
        f"{_NODE} 'search-proxyless-1'",
        _claims_node("homepage", "search-proxyless-1", "search", "proxyless"),
    ),
    Case(
        "a proxyless client that the lab did not plan",
        "proxyless",
        "control-plane",
        _DENIED,
        r"node 'homepage-evil' \(proxyless\) is not one that the lab planned",
        _claims_node("homepage", "homepage-evil", "homepage", "proxyless"),
    ),
    Case(
        "a proxyless client by another caller's name",
        "proxyless",
        "control-plane",
        _DENIED,
        r"node 'search-proxyless-abcdef' \(proxyless\) is not one that the lab planned",
        _claims_node("homepage", "search-proxyless-abcdef", "homepage", "proxyless"),
    ),
    Case(
        "as many proxyless clients as a caller likes",
        "proxyless",
        "control-plane",
        "RESOURCE_EXHAUSTED",
        "caller/homepage has 64 streams already",
        _opens_streams,
    ),
    Case(
        "a gateway that the lab did not plan",
        "gateway",
        "control-plane",
        _DENIED,
        r"node 'gateway-9' \(gateway\) is not one that the lab planned",
        _is_one_gateway_more,
    ),
    Case(
        "a resolver that claims to be a gateway",
        "gateway",
        "control-plane",
        _DENIED,
        f"{_NODE} 'gateway-1'",
        _claims_rules,
    ),
    Case("another caller's use case", "gateway", "gateway-1", _DENIED, "SearchRanking", _asks_gateway(THEIRS, "")),
    Case(
        "another caller's use case, as that caller",
        "gateway",
        "gateway-1",
        _DENIED,
        "you are homepage, and may not ask as caller 'search'",
        _asks_gateway(THEIRS, "search"),
    ),
    Case("another caller's tenant", "gateway", "gateway-1", _DENIED, _NOT_OURS, _names_tenant("gateway-1")),
    Case(
        "another caller's tenant, in the body beside the header's envelope",
        "gateway-passthrough",
        "gateway-1",
        "OK",
        _NOT_READ,
        _adds_envelope(rank(tenant="ads")),
    ),
    *(
        Case(attack, "gateway-header", by, status, reason, _names_tenant("central-envoy", *in_headers))
        for attack, by, status, reason, in_headers in (
            ("another caller's tenant", "central-envoy", _DENIED, _NOT_OURS, [b"ads"]),
            ("another caller's tenant, as a second value", "central-envoy", _INVALID, _ONE_TENANT, [b"%", b"ads"]),
            (
                "another caller's tenant, in the body only",
                MODEL,
                _INVALID,
                "x-tenant says '%', the body says 'ads'",
                [],
            ),
        )
    ),
    *(
        Case(attack, "mesh", "homepage-resolver", _DENIED, reason, _asks_resolver(unit, use_case, caller))
        for attack, reason, unit, use_case, caller in (
            ("another caller's use case", "SearchRanking", "homepage", THEIRS, ""),
            ("another caller's use case, as that caller", f"{_ONLY}, not for 'search'", "homepage", THEIRS, "search"),
            ("another caller's resolver", f"{_ONLY}; you are search", "search", OURS, ""),
        )
    ),
    Case(
        "another caller's resolver, watched",
        "mesh",
        "homepage-resolver",
        _DENIED,
        f"{_ONLY}; you are search",
        _watches_resolver,
    ),
    Case(
        "a replayed registration",
        "mesh",
        "control-plane",
        _DENIED,
        r"ml-cluster-1 may not be a replica of 'ml-cluster-2'",
        _replays_registration,
    ),
    *(
        Case("a model that answers as another", way, by, "UNAVAILABLE", reason, attempt)
        for way, by, reason, attempt in (
            ("mesh", "search-sidecar", "fail_verify_san", _answers_as_another("search-sidecar")),
            ("gateway-header", "central-envoy", "fail_verify_san", _answers_as_another("central-envoy")),
            ("gateway", "gateway-1", _NOT_THE_ONE, _answers_as_another_to_grpc("gateway", _NOT_THE_ONE)),
            ("proxyless", "search", _NOT_AMONG_THEM, _answers_as_another_to_grpc("proxyless", _NOT_AMONG_THEM)),
        )
    ),
    Case(
        "a resolver's answer with another caller's key",
        "mesh",
        "homepage-sidecar",
        "UNAVAILABLE",
        "no such key for this caller",
        _believes_its_resolver,
    ),
)
