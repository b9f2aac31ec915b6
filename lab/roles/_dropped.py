"""What units say that they have dropped since they were started, as a run collects it."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING

import grpc

from lab.transport import open_blocking_channel
from models.proto.control.v1 import gateway_pb2, gateway_pb2_grpc

if TYPE_CHECKING:
    from lab.roles._unit import Unit

_TIMEOUT_S = 2.0
_OVERFLOW = "cluster.copies.upstream_rq_active_overflow"


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
