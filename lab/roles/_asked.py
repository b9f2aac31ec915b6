"""What a run asks units: by which revision they decide, and what they have dropped since they were started."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING

import grpc

from lab.transport import open_blocking_channel
from models.proto.control.v1 import gateway_pb2, gateway_pb2_grpc, resolver_pb2, resolver_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.roles._unit import Unit

_TIMEOUT_S, _PROBE_TIMEOUT_S = 2.0, 1.0
_OVERFLOW = "cluster.copies.upstream_rq_active_overflow"


def resolver_decides(channel: grpc.Channel, use_case: str, caller: str) -> Callable[[], int]:
    """Returns a function that has a resolver decide for a caller, and returns by which revision it did."""
    request = resolver_pb2.ResolveRequest(use_case=use_case)
    request.context.user_id, request.context.caller = "probe", caller
    resolve = resolver_pb2_grpc.ResolverStub(channel).Resolve
    return lambda: int(resolve(request, timeout=_PROBE_TIMEOUT_S).revision)


def gateway_decides(channel: grpc.Channel, use_case: str, caller: str) -> Callable[[], int]:
    """Returns a function that asks a gateway about a use case, and returns by which revision it decides."""
    del caller  # it answers everyone but a proven other caller
    request = gateway_pb2.GetTimeoutRequest(use_case=use_case)
    get_timeout = gateway_pb2_grpc.GatewayStub(channel).GetTimeout
    return lambda: int(get_timeout(request, timeout=_PROBE_TIMEOUT_S).revision)


def copies_dropped_by_gateway(unit: Unit) -> int | None:
    """Returns how many shadow copies a gateway has dropped at its bound; None if it does not answer."""
    with open_blocking_channel(unit.address) as channel:
        try:
            request = gateway_pb2.GetDroppedRequest()
            return int(gateway_pb2_grpc.GatewayStub(channel).GetDropped(request, timeout=_TIMEOUT_S).copies)
        except grpc.RpcError:
            return None


def copies_dropped_by_envoy(unit: Unit) -> int | None:
    """Returns how many shadow copies an Envoy has dropped at its bound; None if it does not answer."""
    if unit.admin is None:
        return None
    url = f"http://{unit.admin.outside}/stats?format=json&filter=^{_OVERFLOW}$"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
            stats = json.load(answer)["stats"]
    except (OSError, ValueError):
        return None
    return sum(int(each["value"]) for each in stats)
