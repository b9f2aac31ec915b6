"""What a gateway tells beside answers: to callers, the timeouts of use cases; to a run, its revision and drops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration

from lab.routing.rules import shown
from lab.transport import proved_caller
from models.proto.control.v1 import gateway_pb2, gateway_pb2_grpc

if TYPE_CHECKING:
    from lab.client.shadow_sender import ShadowSender
    from services.gateway.forwarder import Forwarder


class GatewayInfo(gateway_pb2_grpc.GatewayServicer):
    """Answers by the rules that a forwarder has in force, and by what the sender of copies has dropped."""

    def __init__(self, forwarder: Forwarder, shadows: ShadowSender) -> None:
        self._forwarder, self._shadows = forwarder, shadows

    async def GetTimeout(
        self, request: gateway_pb2.GetTimeoutRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> gateway_pb2.GetTimeoutResponse:
        """The timeout of a use case, and the revision that decides; NOT_FOUND also for a caller that may not use it."""
        caller = proved_caller(context)
        use_case = self._forwarder.use_case(request.use_case, caller)
        if use_case is None or (caller and caller not in use_case.callers):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no use case {shown(request.use_case)} for you")
        timeout = Duration()
        timeout.FromNanoseconds(round(use_case.timeout_s * 1e9))
        return gateway_pb2.GetTimeoutResponse(timeout=timeout, revision=self._forwarder.revision)

    async def GetDropped(
        self, request: gateway_pb2.GetDroppedRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> gateway_pb2.GetDroppedResponse:
        """What it has dropped since it was started."""
        del request, context
        return gateway_pb2.GetDroppedResponse(copies=self._shadows.dropped_at_bound)
