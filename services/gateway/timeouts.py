"""Tells callers the timeouts of use cases, which they need before their first answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration

from lab.routing.rules import shown
from lab.transport import proved_caller
from models.proto.control.v1 import gateway_pb2, gateway_pb2_grpc

if TYPE_CHECKING:
    from services.gateway.forwarder import Forwarder


class Timeouts(gateway_pb2_grpc.GatewayServicer):
    """Answers by the rules that a forwarder has in force."""

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder

    async def GetTimeout(
        self, request: gateway_pb2.GetTimeoutRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> gateway_pb2.GetTimeoutResponse:
        """The timeout of a use case; NOT_FOUND also for a caller that may not use it."""
        use_case, caller = self._forwarder.use_case(request.use_case), proved_caller(context)
        if use_case is None or (caller and caller not in use_case.callers):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no use case {shown(request.use_case)} for you")
        timeout = Duration()
        timeout.FromNanoseconds(round(use_case.timeout_s * 1e9))
        return gateway_pb2.GetTimeoutResponse(timeout=timeout)
