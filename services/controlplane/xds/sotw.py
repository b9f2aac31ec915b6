"""The state-of-the-world variant of ADS, for gRPC libraries that route by themselves.

A client subscribes to its listener, which has one route per permitted routing key; then to the clusters of the routes,
then to their endpoints. Each request lists all subscriptions of its type. Each response lists all listeners or
clusters, and a client drops those that are missing. This server never removes a cluster that way: it removes the route
first, and the client then unsubscribes from the cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from envoy.service.discovery.v3 import discovery_pb2

from lab.transport.xds import LISTENER as LISTENER_NAME
from services.controlplane.xds.identity import TransportSocket, plaintext
from services.controlplane.xds.resources import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    Resource,
    endpoints,
    split_endpoint_set_name,
)
from services.controlplane.xds.store import NodeStream, ResourceStore
from services.controlplane.xds.zones import View, everywhere

if TYPE_CHECKING:
    from services.controlplane.nodes.subscribers import Subscriber


class SotwStream(NodeStream):
    """The stream of one gRPC client, which sends for ``caller``."""

    TYPES = (LISTENER, CLUSTER, ENDPOINTS)  # each refers to the next

    def __init__(
        self,
        store: ResourceStore,
        subscriber: Subscriber,
        caller: str,
        transport_socket: TransportSocket = plaintext,
        view: View = everywhere,
    ) -> None:
        super().__init__(store, subscriber, transport_socket, view)
        self._caller = caller

    def catch_up(self, generation: int) -> bool:
        """False always: whether the listener changed shows only when it is built."""
        del generation
        return False

    def keys_changed(self) -> None:
        """See :class:`.store.NodeStream`; clusters and endpoints may have become permitted or forbidden."""
        for type_url in (CLUSTER, ENDPOINTS):
            self._subscriptions[type_url].changed.update(self._subscriptions[type_url].sent)

    def offer_corrupt(self, generation: int) -> bool:
        """False always: a gRPC client drops every cluster that an invalid response leaves out."""
        del generation
        return False

    def receive(self, request: discovery_pb2.DiscoveryRequest) -> None:
        """See :class:`.store.NodeStream`."""
        if not self._serves(request.type_url):
            return
        if request.version_info and not request.response_nonce:
            self.subscriber.holds_earlier_state()
        if request.response_nonce:
            # A client acknowledges only the last of several pending responses.
            self._acknowledge(request, of_all=request.type_url)
        self._subscribe(request.type_url, set(request.resource_names))

    def _subscribe(self, type_url: str, wanted: set[str]) -> None:
        """Compares the list with the subscriptions, since it may change between two responses without a new nonce."""
        subscription = self._subscriptions[type_url]
        for name in wanted - subscription.sent.keys():
            subscription.sent[name] = ""
            subscription.changed.add(name)
        for name in subscription.sent.keys() - wanted:
            self._forget(type_url, name)
            if type_url == LISTENER:
                self._await_clusters(frozenset(), 0)

    def responses(self) -> list[discovery_pb2.DiscoveryResponse]:
        """The responses to send now."""
        generation = self._store.subscribers.generation
        result = [
            response
            for build in (self._listeners, self._clusters, self._endpoints)
            if (response := build(generation)) is not None
        ]
        self._progress.update(generation)
        return result

    def _listeners(self, generation: int) -> discovery_pb2.DiscoveryResponse | None:
        subscription = self._subscriptions[LISTENER]
        subscription.changed.clear()
        if LISTENER_NAME not in subscription.sent:
            return None
        listener = self._store.listener(self._caller)
        if listener.version == subscription.sent[LISTENER_NAME]:
            return None
        subscription.sent[LISTENER_NAME] = listener.version
        self._await_clusters(listener.routes, generation)
        return self._response(LISTENER, [listener], generation)

    def _clusters(self, generation: int) -> discovery_pb2.DiscoveryResponse | None:
        subscription = self._subscriptions[CLUSTER]
        found = (self._store.find(CLUSTER, name) for name in sorted(self._keys & subscription.sent.keys()))
        held = [self._transport_socket(each) for each in found if each is not None]
        changed = [each for each in held if each.version != subscription.sent[each.name]]
        subscription.changed.clear()
        if not changed:
            return None
        for each in changed:
            subscription.sent[each.name] = each.version
            self._progress.cluster_sent(each, self._subscriptions[ENDPOINTS], generation)
        return self._response(CLUSTER, held, generation)

    def _endpoints(self, generation: int) -> discovery_pb2.DiscoveryResponse | None:
        subscription = self._subscriptions[ENDPOINTS]
        changed = [
            resource
            for name in sorted(subscription.changed)
            if (resource := self._endpoints_of(name)).version != subscription.sent[name]
        ]
        subscription.changed.clear()
        if not changed:
            return None
        subscription.sent.update((each.name, each.version) for each in changed)
        return self._response(ENDPOINTS, changed, generation)

    @property
    def _keys(self) -> frozenset[str]:
        return self._store.keys(self._caller)

    def _endpoints_of(self, name: str) -> Resource:
        """The endpoints for this node; those of a key that it may not use are empty."""
        found = self._view(ENDPOINTS, self._store.get(ENDPOINTS, name))
        return found if split_endpoint_set_name(name)[1] in self._keys else endpoints(name, ())

    def _response(self, type_url: str, resources: list[Resource], generation: int) -> discovery_pb2.DiscoveryResponse:
        return discovery_pb2.DiscoveryResponse(
            type_url=type_url,
            version_info=str(generation),
            nonce=self._progress.carries(generation, tuple((type_url, each.name) for each in resources)),
            resources=[each.grpc_body or each.body for each in resources],
        )

    def _await_clusters(self, routes: frozenset[str], generation: int) -> None:
        """Awaits the clusters of new routes: a route is in force only once its cluster is."""
        for key in self._progress.awaited(CLUSTER):
            if key not in routes:
                self._progress.gives_up((CLUSTER, key))
        for key in routes - self._subscriptions[CLUSTER].sent.keys():
            self._progress.refers_to((CLUSTER, key), generation)
