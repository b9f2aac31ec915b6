"""The aggregated discovery service in both variants, and what they share: a stream's life."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Protocol

import grpc
import grpc.aio
from envoy.service.discovery.v3 import ads_pb2_grpc

from lab.transport import peer_identity
from services.controlplane.nodes.subscribers import Subscriber
from services.controlplane.xds.delta import DeltaStream
from services.controlplane.xds.identity import EnvoyTls, GrpcTls, caller_of, identity_mismatch, plaintext
from services.controlplane.xds.idle import Idle
from services.controlplane.xds.sotw import SotwStream
from services.controlplane.xds.store import ChangeListener

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

    from envoy.config.core.v3 import base_pb2
    from envoy.service.discovery.v3 import discovery_pb2

    from lab.identity import Identity
    from services.controlplane.xds.store import ResourceStore

log = logging.getLogger(__name__)

"""Role of an Envoy that all callers send to."""


class _Stream(ChangeListener, Protocol):
    """What one node subscribes to, was sent, and has acknowledged."""

    def receive(self, request: Any) -> None:
        """Takes in a subscription, an acknowledgement or a refusal."""

    def responses(self) -> Sequence[Any]:
        """What is to be sent now."""


class Discovery(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):  # type: ignore[misc]  # untyped wheel
    """Serves ADS; the node of a stream is the one of its first request.

    Args:
        store: what there is.
        clusters_idle_after_s: how long an Envoy keeps a cluster that it does not use, seconds; 0 for ever.
    """

    def __init__(self, store: ResourceStore, clusters_idle_after_s: float = 0.0) -> None:
        self._store = store
        self.clusters_idle_after_s = clusters_idle_after_s
        self._for_grpc = GrpcTls()
        self._envoys: dict[str, DeltaStream] = {}

    def reported(self, node: str, used: Mapping[str, bool]) -> bool:
        """An Envoy says of its clusters whether each was used since it last said so; is it served here?"""
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
        identity = await checked(first.node, subscriber, context)
        socket = plaintext if identity is None else EnvoyTls(_said(first.node, "secrets"))
        shared = bool(_said(first.node, "shared"))
        idle = Idle(self.clusters_idle_after_s)
        stream = DeltaStream(self._store, subscriber, socket, caller=caller_of(identity), shared=shared, idle=idle)
        self._envoys[subscriber.node] = stream
        try:
            async with aclosing(self._serve(stream, subscriber, first, request_iterator)) as responses:
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
        identity = await checked(first.node, subscriber, context)
        socket = plaintext if identity is None else self._for_grpc
        stream = SotwStream(self._store, subscriber, first.node.cluster, socket)
        async with aclosing(self._serve(stream, subscriber, first, request_iterator)) as responses:
            async for response in responses:
                yield response

    async def _serve(
        self, stream: _Stream, subscriber: Subscriber, first: Any, requests: AsyncIterator[Any]
    ) -> AsyncGenerator[Any]:
        subscribers = self._store.subscribers
        self._store.add_listener(stream)
        subscribers.add(subscriber)
        log.info("%s connected", subscriber.node)
        _take(first, stream, subscriber)
        reader = asyncio.create_task(_read(requests, stream, subscriber))
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


async def _read(requests: AsyncIterator[Any], stream: _Stream, subscriber: Subscriber) -> None:
    try:
        async for request in requests:
            _take(request, stream, subscriber)
    finally:
        subscriber.wake.set()


def _take(request: Any, stream: _Stream, subscriber: Subscriber) -> None:
    try:
        stream.receive(request)
    except Exception:
        # One bad request must not end the stream: Envoy would repeat it on every reconnect, and no new key would be
        # answered until Envoy itself is restarted.
        log.exception("%s: request ignored", subscriber.node)
    subscriber.wake.set()


def _role(node: base_pb2.Node, otherwise: str) -> str:
    """What the node's bootstrap says that it is."""
    return _said(node, "role") or otherwise


def _said(node: base_pb2.Node, field: str) -> str:
    return str(node.metadata.fields[field].string_value) if field in node.metadata.fields else ""


def subscriber_of(node: base_pb2.Node, context: grpc.aio.ServicerContext[Any, Any], otherwise: str) -> Subscriber:
    """Who says so of itself; of the role ``otherwise`` if it does not say which it has."""
    return Subscriber(node.id or context.peer(), _role(node, otherwise))


async def checked(
    node: base_pb2.Node, subscriber: Subscriber, context: grpc.aio.ServicerContext[Any, Any]
) -> Identity | None:
    """What the connection has proved, None if it proves nothing; ends the call of one who is not what it says."""
    identity = peer_identity(context)
    reason = identity_mismatch(identity, node=subscriber.node, role=subscriber.role, caller=node.cluster)
    if reason:
        log.warning("turned away: %s", reason)
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, reason)
    return identity
