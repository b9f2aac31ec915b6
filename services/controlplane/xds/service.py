"""The aggregated discovery service (ADS) in both variants, and the load reporting service (LRS)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from envoy.service.load_stats.v3 import lrs_pb2, lrs_pb2_grpc
from google.protobuf import duration_pb2

from lab.plain_text import require_plain
from lab.transport import peer_identity
from lab.transport.xds import ROLE as PROXYLESS
from services.controlplane.nodes.admission import Admission, Claim, NodeRefusedError
from services.controlplane.nodes.subscribers import Subscriber
from services.controlplane.nodes.zones import Zones
from services.controlplane.xds.delta import DeltaStream
from services.controlplane.xds.identity import (
    EnvoyTls,
    GrpcTls,
    TransportSocket,
    caller_of,
    identity_mismatch,
    plaintext,
)
from services.controlplane.xds.idle_clusters import IdleClusters
from services.controlplane.xds.picked_hosts import HOST_FROM, HOST_TO, PickedHosts, following
from services.controlplane.xds.sotw import SotwStream
from services.controlplane.xds.zones import view_from

if TYPE_CHECKING:
    from envoy.config.core.v3 import base_pb2

    from lab.identity import Identity
    from services.controlplane.xds.store import NodeStream, ResourceStore

    Context = grpc.aio.ServicerContext[Any, Any]

log = logging.getLogger(__name__)

_NO_ZONES = Zones()
_REPORTS_AN_IDLE_TIME = 4
_LONGEST_S, _SHORTEST_S = 60.0, 0.1


class Discovery(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):  # type: ignore[misc]  # untyped wheel
    """Serves ADS; a stream's first request identifies its node.

    Args:
        store: the resources.
        clusters_idle_after_s: how long an Envoy keeps a cluster that it does not use, seconds; 0 for ever.
        clusters_unasked: limit of an Envoy's keys up to which it gets all their clusters before any request.
        admission: of nodes; every node is admitted if left out.
        zones: of the lab.
    """

    def __init__(
        self,
        store: ResourceStore,
        clusters_idle_after_s: float = 0.0,
        admission: Admission | None = None,
        *,
        clusters_unasked: int = 0,
        zones: Zones = _NO_ZONES,
    ) -> None:
        self._store, self._zones = store, zones
        self.admission = admission
        self.clusters_idle_after_s, self._clusters_unasked = clusters_idle_after_s, clusters_unasked
        self._for_grpc = GrpcTls()
        self._envoys: dict[str, DeltaStream] = {}

    def reported(self, node: str, used: Mapping[str, bool]) -> bool:
        """Takes in an Envoy's load report, cluster → whether used; returns whether the Envoy has a stream here."""
        stream = self._envoys.get(node)
        if stream is not None:
            stream.reported(used)
        return stream is not None

    async def DeltaAggregatedResources(
        self, request_iterator: AsyncIterator[discovery_pb2.DeltaDiscoveryRequest], context: Context
    ) -> AsyncIterator[discovery_pb2.DeltaDiscoveryResponse]:
        """One Envoy's stream, until either side ends it."""
        first = await anext(aiter(request_iterator), None)
        if first is None:
            return
        async with _admitted(self.admission, first.node, context, "sidecar") as (subscriber, identity):
            socket: TransportSocket = plaintext if identity is None else EnvoyTls(_claimed(first.node, "secrets"))
            if picked := _claimed(first.node, HOST_FROM):
                socket = following(socket, PickedHosts(picked, _claimed(first.node, HOST_TO)))
            shared = bool(_claimed(first.node, "shared"))
            idle = IdleClusters(self.clusters_idle_after_s)
            stream = DeltaStream(
                self._store,
                subscriber,
                socket,
                caller=caller_of(identity),
                shared=shared,
                idle=idle,
                most_unasked=self._clusters_unasked,
                view=view_from(self._zones, self._zones.zone_of(subscriber.node), zone_aware=not picked),
            )
            self._envoys[subscriber.node] = stream
            try:
                async with aclosing(self._serve(stream, first, request_iterator)) as responses:
                    async for response in responses:
                        yield response
            finally:
                if self._envoys.get(subscriber.node) is stream:
                    del self._envoys[subscriber.node]

    async def StreamAggregatedResources(
        self, request_iterator: AsyncIterator[discovery_pb2.DiscoveryRequest], context: Context
    ) -> AsyncIterator[discovery_pb2.DiscoveryResponse]:
        """One gRPC client's stream, until either side ends it."""
        first = await anext(aiter(request_iterator), None)
        if first is None:
            return
        async with _admitted(self.admission, first.node, context, PROXYLESS) as (subscriber, identity):
            socket = plaintext if identity is None else self._for_grpc
            zone = self._zones.zone_of(subscriber.node, first.node.cluster)
            view = view_from(self._zones, zone, by_priority=True)
            stream = SotwStream(self._store, subscriber, first.node.cluster, socket, view)
            async with aclosing(self._serve(stream, first, request_iterator)) as responses:
                async for response in responses:
                    yield response

    async def _serve(self, stream: NodeStream, first: Any, requests: AsyncIterator[Any]) -> AsyncGenerator[Any]:
        subscribers, subscriber = self._store.subscribers, stream.subscriber
        self._store.add_listener(stream)
        subscribers.add(subscriber)
        log.info("%s connected", subscriber.node)
        _take(first, stream)
        reader = asyncio.create_task(_read(requests, stream))
        try:
            while not reader.done():
                await subscriber.wake.wait()
                subscriber.wake.clear()
                # A control plane that has lost its store leaves nodes with what they hold until the next publish.
                if self._store.is_filled or not subscriber.holds_state:
                    for response in stream.responses():
                        yield response
                await subscribers.notify_progress()
        finally:
            reader.cancel()
            self._store.discard_listener(stream)
            await subscribers.discard(subscriber)
            log.info("%s disconnected", subscriber.node)


class LoadReports(lrs_pb2_grpc.LoadReportingServiceServicer):  # type: ignore[misc]  # untyped wheel
    """Takes load reports and passes on which clusters were used; asks for none if clusters never leave.

    Args:
        discovery: serves the nodes that report.
    """

    def __init__(self, discovery: Discovery) -> None:
        self._discovery = discovery

    async def StreamLoadStats(
        self, request_iterator: AsyncIterator[lrs_pb2.LoadStatsRequest], context: Context
    ) -> AsyncIterator[lrs_pb2.LoadStatsResponse]:
        """One Envoy's reports, until either side ends them."""
        first = await anext(aiter(request_iterator), None)
        if first is None:
            return
        async with _admitted(self._discovery.admission, first.node, context, "sidecar") as (subscriber, _):
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


async def _read(requests: AsyncIterator[Any], stream: NodeStream) -> None:
    try:
        async for request in requests:
            _take(request, stream)
    finally:
        stream.subscriber.wake.set()


def _take(request: Any, stream: NodeStream) -> None:
    try:
        stream.receive(request)
    except Exception:
        # An invalid request must not end the stream: Envoy would repeat it on every reconnect, and receive no new key
        # until it is restarted.
        log.exception("%s: request ignored", stream.subscriber.node)
    stream.subscriber.wake.set()


def _claimed(node: base_pb2.Node, field: str) -> str:
    return str(node.metadata.fields[field].string_value) if field in node.metadata.fields else ""


def _subscriber_of(node: base_pb2.Node, context: Context, otherwise: str) -> Subscriber:
    """The node that a request claims to be from; its role is ``otherwise`` if it claims none."""
    return Subscriber(node.id or context.peer(), _claimed(node, "role") or otherwise)


async def _authenticated(node: base_pb2.Node, subscriber: Subscriber, context: Context) -> Identity | None:
    """The peer's identity, None if peers do not authenticate; aborts the call if it does not match the claimed node."""
    try:
        for field, text in (("id", subscriber.node), ("role", subscriber.role), ("cluster", node.cluster)):
            require_plain(f"node.{field}", text)
        for field in ("secrets", HOST_FROM, HOST_TO):
            require_plain(f"node.metadata.{field}", _claimed(node, field))
    except ValueError as error:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    identity = peer_identity(context)
    reason = identity_mismatch(identity, node=subscriber.node, role=subscriber.role, caller=node.cluster)
    if reason:
        log.warning("refused: %s", reason)
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, reason)
    return identity


@asynccontextmanager
async def _admitted(
    admission: Admission | None, node: base_pb2.Node, context: Context, otherwise: str
) -> AsyncIterator[tuple[Subscriber, Identity | None]]:
    """The node that a request claims to be from, and its identity; aborts the call of one that may not connect."""
    subscriber = _subscriber_of(node, context, otherwise)
    identity = await _authenticated(node, subscriber, context)
    acts_for = node.cluster if subscriber.role == PROXYLESS else ""
    claim = Claim(subscriber.node, subscriber.role, acts_for, identity.uri if identity else "")
    try:
        with admission.stream(identity, claim) if admission else nullcontext():
            yield subscriber, identity
    except NodeRefusedError as error:
        await context.abort(error.code, str(error))


def _was_used(cluster: Any) -> bool:
    return any(
        each.total_requests_in_progress or each.total_issued_requests for each in cluster.upstream_locality_stats
    )
