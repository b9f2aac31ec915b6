"""The incremental variant of the aggregated discovery service, for Envoy.

An Envoy names what it needs (clusters on demand, then their endpoints) and is told of every change to it for as long
as the stream lives, also when something comes back that was gone: after a removal Envoy does not ask again.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from lab.routing.keys import is_routing_key
from services.controlplane.subscribers import Subscriber
from services.controlplane.xds.resources import CLUSTER, ENDPOINTS, Resource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc.aio
    from envoy.config.core.v3 import base_pb2

    from services.controlplane.xds.store import ResourceStore

log = logging.getLogger(__name__)

# Clusters before endpoints: the order in which Envoy can use them.
_TYPES = (CLUSTER, ENDPOINTS)


@dataclass(slots=True)
class _Subscription:
    """What one stream wants of one type."""

    sent: dict[str, str] = field(default_factory=dict)  # name → version that the node has, "" before the first
    changed: set[str] = field(default_factory=set)


class _Stream:
    """One Envoy's stream: what it subscribes to, what it was sent, what it has acknowledged."""

    def __init__(self, store: ResourceStore, subscriber: Subscriber) -> None:
        self._store = store
        self._subscriber = subscriber
        self._subscriptions = {type_url: _Subscription() for type_url in _TYPES}
        self._built = store.subscribers.generation
        self._nonce = 0
        self._unacknowledged: dict[str, tuple[int, tuple[str, ...]]] = {}  # nonce → generation, endpoint sets
        self._awaited_endpoints: dict[str, int] = {}  # endpoint set → generation whose cluster waits for it

    def resource_changed(self, type_url: str, name: str) -> None:
        """Called by the store."""
        subscription = self._subscriptions[type_url]
        if name in subscription.sent:
            subscription.changed.add(name)

    def receive(self, request: discovery_pb2.DeltaDiscoveryRequest) -> None:
        """Takes in a subscription, an acknowledgement or a refusal."""
        if request.type_url not in self._subscriptions:
            log.warning("%s asks for %s, which is not served", self._subscriber.node, request.type_url)
            return
        subscription = self._subscriptions[request.type_url]
        if request.response_nonce:
            self._acknowledge(request)
        for name, version in request.initial_resource_versions.items():
            subscription.sent[name] = version
        for name in request.resource_names_subscribe:
            if request.type_url == CLUSTER and not is_routing_key(name):
                log.warning("%s asks for a cluster named %r, which is no routing key", self._subscriber.node, name)
                continue
            # What the node kept from an earlier stream is sent only if it has changed since. Asked for again within
            # a stream, it is sent again: Envoy does so when it warms a cluster anew, and waits for the answer.
            if name not in request.initial_resource_versions:
                subscription.sent[name] = ""
            subscription.changed.add(name)
        for name in request.resource_names_unsubscribe:
            subscription.sent.pop(name, None)
            subscription.changed.discard(name)
            if request.type_url == ENDPOINTS:
                self._awaited_endpoints.pop(name, None)

    def responses(self) -> list[discovery_pb2.DeltaDiscoveryResponse]:
        """What is to be sent now."""
        generation = self._store.subscribers.generation
        result = [response for type_url in _TYPES if (response := self._response(type_url, generation)) is not None]
        self._built = generation
        self._update_applied()
        return result

    def _response(self, type_url: str, generation: int) -> discovery_pb2.DeltaDiscoveryResponse | None:
        subscription = self._subscriptions[type_url]
        resources = []
        for name in sorted(subscription.changed):
            resource = self._store.get(type_url, name)
            if resource.version != subscription.sent[name]:
                subscription.sent[name] = resource.version
                resources.append(resource)
                self._await_endpoints(resource, generation)
        subscription.changed.clear()
        if not resources:
            return None
        self._nonce += 1
        nonce = str(self._nonce)
        names = tuple(each.name for each in resources) if type_url == ENDPOINTS else ()
        self._unacknowledged[nonce] = (generation, names)
        return discovery_pb2.DeltaDiscoveryResponse(
            type_url=type_url,
            nonce=nonce,
            system_version_info=str(generation),
            resources=[
                discovery_pb2.Resource(name=each.name, version=each.version, resource=each.body) for each in resources
            ],
        )

    def _await_endpoints(self, resource: Resource, generation: int) -> None:
        """A new cluster is in force only once its endpoints are, and Envoy asks for those after acknowledging it."""
        endpoint_set = resource.endpoint_set
        if endpoint_set and endpoint_set not in self._subscriptions[ENDPOINTS].sent:
            self._awaited_endpoints[endpoint_set] = generation

    def _acknowledge(self, request: discovery_pb2.DeltaDiscoveryRequest) -> None:
        generation, endpoint_sets = self._unacknowledged.pop(request.response_nonce, (0, ()))
        if request.HasField("error_detail"):
            self._subscriber.refused = generation
            self._subscriber.error = request.error_detail.message
            log.error("%s refused generation %d: %s", self._subscriber.node, generation, request.error_detail.message)
        for name in endpoint_sets:
            self._awaited_endpoints.pop(name, None)
        self._update_applied()

    def _update_applied(self) -> None:
        outstanding = [
            *(generation for generation, _ in self._unacknowledged.values()),
            *self._awaited_endpoints.values(),
        ]
        self._subscriber.has_applied(min(outstanding) - 1 if outstanding else self._built)
        if self._subscriber.applied > self._subscriber.refused:
            self._subscriber.error = ""


class DeltaDiscovery(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):  # type: ignore[misc]  # untyped wheel
    """Serves delta ADS; the node of a stream is the ``node.id`` of its first request."""

    def __init__(self, store: ResourceStore) -> None:
        self._store = store

    async def DeltaAggregatedResources(  # noqa: N802 (the protocol's name)
        self,
        request_iterator: AsyncIterator[discovery_pb2.DeltaDiscoveryRequest],
        context: grpc.aio.ServicerContext[discovery_pb2.DeltaDiscoveryRequest, discovery_pb2.DeltaDiscoveryResponse],
    ) -> AsyncIterator[discovery_pb2.DeltaDiscoveryResponse]:
        """One Envoy's stream, until either side ends it."""
        first = await anext(aiter(request_iterator), None)
        if first is None:
            return
        subscriber = Subscriber(first.node.id or context.peer(), _role(first.node))
        stream = _Stream(self._store, subscriber)
        subscribers = self._store.subscribers
        self._store.add_listener(stream)
        subscribers.add(subscriber)
        log.info("%s connected", subscriber.node)
        _take(first, stream, subscriber)
        reader = asyncio.create_task(self._read(request_iterator, stream, subscriber))
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

    async def _read(
        self,
        requests: AsyncIterator[discovery_pb2.DeltaDiscoveryRequest],
        stream: _Stream,
        subscriber: Subscriber,
    ) -> None:
        try:
            async for request in requests:
                _take(request, stream, subscriber)
        finally:
            subscriber.wake.set()


def _role(node: base_pb2.Node) -> str:
    """What the node's bootstrap says that it is; Envoys of others stand beside a caller, too."""
    said = node.metadata.fields["role"].string_value if "role" in node.metadata.fields else ""
    return said or "sidecar"


def _take(request: discovery_pb2.DeltaDiscoveryRequest, stream: _Stream, subscriber: Subscriber) -> None:
    try:
        stream.receive(request)
    except Exception:
        # One bad request must not end the stream: Envoy would repeat it on every reconnect, and no new key would be
        # answered until Envoy itself is restarted.
        log.exception("%s: request ignored", subscriber.node)
    subscriber.wake.set()
