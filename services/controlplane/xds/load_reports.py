"""The load reporting service (LRS): which of its clusters an Envoy uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from envoy.service.load_stats.v3 import lrs_pb2, lrs_pb2_grpc
from google.protobuf import duration_pb2

from services.controlplane.xds.service import authenticated, subscriber_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.controlplane.xds.service import Discovery

_REPORTS_AN_IDLE_TIME = 4
_LONGEST_S, _SHORTEST_S = 60.0, 0.1


class LoadReports(lrs_pb2_grpc.LoadReportingServiceServicer):  # type: ignore[misc]  # untyped wheel
    """Takes load reports and passes on which clusters were used; asks for none if clusters never leave.

    Args:
        discovery: serves the nodes that report.
    """

    def __init__(self, discovery: Discovery) -> None:
        self._discovery = discovery

    async def StreamLoadStats(  # noqa: N802 (the protocol's name)
        self, request_iterator: AsyncIterator[lrs_pb2.LoadStatsRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[lrs_pb2.LoadStatsResponse]:
        """One Envoy's reports, until either side ends them."""
        first = await anext(aiter(request_iterator), None)
        if first is None:
            return
        subscriber = subscriber_of(first.node, context, "sidecar")
        await authenticated(first.node, subscriber, context)
        after_s = self._discovery.clusters_idle_after_s
        if after_s:
            interval_s = min(max(after_s / _REPORTS_AN_IDLE_TIME, _SHORTEST_S), _LONGEST_S)
            interval = duration_pb2.Duration()
            interval.FromMilliseconds(round(1e3 * interval_s))
            yield lrs_pb2.LoadStatsResponse(send_all_clusters=True, load_reporting_interval=interval)
        async for request in request_iterator:
            used = {each.cluster_name: _was_used(each) for each in request.cluster_stats}
            if not self._discovery.reported(subscriber.node, used):
                # Another control plane may serve this Envoy's ADS stream; the Envoy then tries the next one.
                await context.abort(grpc.StatusCode.UNAVAILABLE, "your clusters come from another control plane")


def _was_used(cluster: Any) -> bool:
    return any(
        each.total_requests_in_progress or each.total_issued_requests for each in cluster.upstream_locality_stats
    )
