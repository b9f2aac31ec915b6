"""Values that could forge a header, a log line or what a terminal shows."""

from __future__ import annotations

from collections.abc import Callable

from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from lab.transport import open_blocking_channel
from models.proto.control.v1 import resolver_pb2, resolver_pb2_grpc
from models.proto.ranking.v1 import ranking_pb2
from tests.negative.cases.claims import answer_to
from tests.negative.scene import KEY, MODEL, OURS, Case, Scene, rank
from tests.negative.wire import Answer

_INVALID, _STEERS = "INVALID_ARGUMENT", "contains a control character; leave it out"
_CONTROL = {"a line break": "a\nb", "an escape sequence": "\x1b[2J", "a NUL": "a\0b"}
_S = 5.0


def _sends(unit: str, field: str, value: str) -> Callable[[Scene], Answer]:
    def attempt(scene: Scene) -> Answer:
        request = ranking_pb2.RankRequest.FromString(rank())
        message = request.envelope if field == "request_id" else request.envelope.context
        setattr(message, field, value)
        return scene.ask(unit, KEY, body=request.SerializeToString())

    return attempt


def _asks_resolver(tenant: str) -> Callable[[Scene], Answer]:
    def attempt(scene: Scene) -> Answer:
        request = resolver_pb2.ResolveRequest(use_case=OURS)
        request.context.tenant = tenant
        with open_blocking_channel(scene.units["homepage-resolver"], scene.security("homepage")) as channel:
            return answer_to(lambda: resolver_pb2_grpc.ResolverStub(channel).Resolve(request, timeout=_S))

    return attempt


def _is_node(name: str) -> Callable[[Scene], Answer]:
    def attempt(scene: Scene) -> Answer:
        request = discovery_pb2.DiscoveryRequest(node=base_pb2.Node(id=name, cluster="homepage"))
        with open_blocking_channel(scene.units["control-plane"], scene.security("homepage")) as channel:
            stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
            return answer_to(lambda: next(stub.StreamAggregatedResources(iter([request]), timeout=_S), None))

    return attempt


def _cases() -> list[Case]:
    cases = []
    for what, value in _CONTROL.items():
        for way, unit in (("gateway", "gateway-1"), ("proxyless", MODEL)):
            for field in ("request_id", "tenant"):
                attack = f"{what} in the {field.replace('_', ' ')}"
                cases.append(Case(attack, way, unit, _INVALID, _STEERS, _sends(unit, field, value)))
        attack = f"{what} in the tenant"
        cases.append(Case(attack, "mesh", "homepage-resolver", _INVALID, _STEERS, _asks_resolver(value)))
        attack = f"{what} in a node's name"
        cases.append(Case(attack, "proxyless", "control-plane", _INVALID, _STEERS, _is_node(value)))
    for unit in ("gateway-1", MODEL):
        way = "gateway" if unit == "gateway-1" else "proxyless"
        cases.append(
            Case(
                "a request id that is not ASCII", way, unit, _INVALID, "header's value", _sends(unit, "request_id", "é")
            )
        )
    return cases


TEXT = tuple(_cases())
