"""The aggregated discovery service (ADS) in both variants."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from envoy.service.discovery.v3 import ads_pb2_grpc

from lab.transport import peer_identity
from services.controlplane.nodes.subscribers import Subscriber
from services.controlplane.xds.delta import DeltaStream
from services.controlplane.xds.identity import EnvoyTls, GrpcTls, caller_of, identity_mismatch, plaintext
from services.controlplane.xds.idle import IdleClusters
from services.controlplane.xds.sotw import SotwStream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

    from envoy.config.core.v3 import base_pb2
    from envoy.service.discovery.v3 import discovery_pb2

    from lab.identity import Identity
    from services.controlplane.xds.store import NodeStream, ResourceStore

log = logging.getLogger(__name__)


class Discovery(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):  # type: ignore[misc]  # untyped wheel
    """Serves ADS; a stream's first request identifies its node.

    Args:
        store: the resources.
        clusters_idle_after_s: how long an Envoy keeps a cluster that it does not use, seconds; 0 for ever.
    """

    def __init__(self, store: ResourceStore, clusters_idle_after_s: float = 0.0) -> None:
        self._store = store
        self.clusters_idle_after_s = clusters_idle_after_s
        self._for_grpc = GrpcTls()
        self._envoys: dict[str, DeltaStream] = {}

    def reported(self, node: str, used: Mapping[str, bool]) -> bool:
        """Takes in an Envoy's load report, cluster → whether used; returns whether the Envoy has a stream here."""
        stream = self._envoys.get(node)
        if stream is not None:
            stream.reported(used)
        return stream is not None

    async def DeltaAggregatedResources(  # noqa: N802 (the protocol's name)
        self,
        request_iterator: AsyncIterator[discovery_pb2.DeltaDiscoveryRequest],
        context: grpc.aio.ServicerContext[discovery_pb2.DeltaDiscoveryRequest, discovery_pb2.DeltaDiscoveryResponse],
    ) -> AsyncIterator[discovery_pb2.DeltaDiscoveryResponse]:
        """One Envoy's stream, until either side ends it."""
        first = await anext(aiter(request_iterator), None)
        if first is None:
            return
        subscriber = subscriber_of(first.node, context, "sidecar")
        identity = await authenticated(first.node, subscriber, context)
        socket = plaintext if identity is None else EnvoyTls(_claimed(first.node, "secrets"))
        shared = bool(_claimed(first.node, "shared"))
        idle = IdleClusters(self.clusters_idle_after_s)
        stream = DeltaStream(self._store, subscriber, socket, caller=caller_of(identity), shared=shared, idle=idle)
        self._envoys[subscriber.node] = stream
        try:
            async with aclosing(self._serve(stream, first, request_iterator)) as responses:
                async for response in responses:
                    yield response
        finally:
            if self._envoys.get(subscriber.node) is stream:
                del self._envoys[subscriber.node]

    async def StreamAggregatedResources(  # noqa: N802 (the protocol's name)
        self,
        request_iterator: AsyncIterator[discovery_pb2.DiscoveryRequest],
        context: grpc.aio.ServicerContext[discovery_pb2.DiscoveryRequest, discovery_pb2.DiscoveryResponse],
    ) -> AsyncIterator[discovery_pb2.DiscoveryResponse]:
        """One gRPC client's stream, until either side ends it."""
        first = await anext(aiter(request_iterator), None)
        if first is None:
            return
        subscriber = subscriber_of(first.node, context, "proxyless")
        identity = await authenticated(first.node, subscriber, context)
        socket = plaintext if identity is None else self._for_grpc
        stream = SotwStream(self._store, subscriber, first.node.cluster, socket)
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
                for response in stream.responses():
                    yield response
                await subscribers.notify_progress()
        finally:
            reader.cancel()
            self._store.discard_listener(stream)
            await subscribers.discard(subscriber)
            log.info("%s disconnected", subscriber.node)


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


def subscriber_of(node: base_pb2.Node, context: grpc.aio.ServicerContext[Any, Any], otherwise: str) -> Subscriber:
    """The node that a request claims to be from; its role is ``otherwise`` if it claims none."""
    return Subscriber(node.id or context.peer(), _claimed(node, "role") or otherwise)


async def authenticated(
    node: base_pb2.Node, subscriber: Subscriber, context: grpc.aio.ServicerContext[Any, Any]
) -> Identity | None:
    """The peer's identity, None if peers do not authenticate; aborts the call if it does not match the claimed node."""
    identity = peer_identity(context)
    reason = identity_mismatch(identity, node=subscriber.node, role=subscriber.role, caller=node.cluster)
    if reason:
        log.warning("refused: %s", reason)
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, reason)
    return identity
