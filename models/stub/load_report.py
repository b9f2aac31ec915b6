"""Reports a replica's load with each response, in the form of ORCA (xds.data.orca.v3.OrcaLoadReport).

Client-side weighted round robin (gRFC A58) in gRPC and Envoy divides the rate by the utilisation.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Any

import grpc
import grpc.aio
from xds.data.orca.v3 import orca_load_report_pb2

from lab.transport.handlers import with_behaviour

TRAILER = "endpoint-load-metrics-bin"
WINDOW_S = 2.0
"""Time after which a request counts for 1/e in what is reported."""


class ReportsLoad(grpc.aio.ServerInterceptor):
    """Adds the trailer to answered requests.

    Args:
        methods: paths of the RPCs that count.
        clock: monotonic, seconds.
    """

    def __init__(self, methods: Collection[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._methods, self._clock = frozenset(methods), clock
        self._requests = self._busy_s = self._at = 0.0

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wraps the handlers of the methods that count."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method not in self._methods:
            return handler
        return with_behaviour(handler, (self._streaming if handler.response_streaming else self._unary)(handler))

    def _unary(self, handler: Any) -> Any:
        async def behaviour(request: Any, context: Any) -> Any:
            began = self._clock()
            response = await handler.unary_unary(request, context)
            context.set_trailing_metadata(((TRAILER, self.ended(began)),))
            return response

        return behaviour

    def _streaming(self, handler: Any) -> Any:
        async def behaviour(request: Any, context: Any) -> AsyncIterator[Any]:
            began = self._clock()
            async for response in handler.unary_stream(request, context):
                yield response
            context.set_trailing_metadata(((TRAILER, self.ended(began)),))

        return behaviour

    def ended(self, began: float) -> bytes:
        """Counts a request that began at this time and ends now; returns the report.

        Its utilisation is the mean number of requests at once.
        """
        now = self._clock()
        kept = math.exp((self._at - now) / WINDOW_S)
        self._requests, self._busy_s, self._at = self._requests * kept + 1, self._busy_s * kept + now - began, now
        report = orca_load_report_pb2.OrcaLoadReport(
            rps_fractional=self._requests / WINDOW_S, application_utilization=self._busy_s / WINDOW_S
        )
        content: bytes = report.SerializeToString()
        return content
