"""The incremental variant of the aggregated discovery service, for Envoy.

An Envoy names what it needs (clusters on demand, then their endpoints) and is told of every change to it for as long
as the stream lives, also when something comes back that was gone: after a removal Envoy does not ask again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from envoy.service.discovery.v3 import discovery_pb2

from lab.routing.keys import is_routing_key
from services.controlplane.xds.identity import in_plaintext
from services.controlplane.xds.keys import NAME as KEY_LIST
from services.controlplane.xds.progress import Progress, Subscription
from services.controlplane.xds.resources import (
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    Resource,
    corrupt_cluster,
    empty_cluster,
    endpoints,
    key_of_endpoint_set,
)
from services.controlplane.xds.tenants import NAME as TENANTS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from services.controlplane.subscribers import Subscriber
    from services.controlplane.xds.identity import Dress
    from services.controlplane.xds.store import ResourceStore

log = logging.getLogger(__name__)

# Clusters before endpoints: the order in which Envoy can use them.
_TYPES = (CLUSTER, ENDPOINTS, EXTENSION)
_EXTENSIONS = (KEY_LIST, TENANTS)
# Of names that lead nowhere, or that the node may not use. Its own list of keys keeps a sidecar from asking for any.
_MOST_NOWHERE = 1_024


class DeltaStream:
    """One Envoy's stream: what it subscribes to, what it was sent, what it has acknowledged.

    Args:
        store: what there is.
        subscriber: the node.
        dress: makes of a cluster what the node is told.
        caller: whose keys alone it may use; None if it may use all.
        shared: whether all callers send to it, so that it lets each use what that one may.
    """

    def __init__(
        self,
        store: ResourceStore,
        subscriber: Subscriber,
        dress: Dress = in_plaintext,
        *,
        caller: str | None = None,
        shared: bool = False,
    ) -> None:
        self.node = subscriber.node
        self._store = store
        self._dress = dress
        self._subscriber = subscriber
        self._subscriptions = {type_url: Subscription() for type_url in _TYPES}
        self._progress = Progress(subscriber, store.subscribers.generation)
        self._caller, self._shared = caller, shared
        self._keys = store.keys(caller)
        self._nowhere: set[tuple[str, str]] = set()
        self._offer: tuple[int, list[Resource]] | None = None

    def resources_changed(self, changed: Mapping[str, Collection[str]]) -> None:
        """Called by the store."""
        for type_url, names in changed.items():
            subscription = self._subscriptions[type_url]
            subscription.changed |= subscription.sent.keys() & names

    def catch_up(self, generation: int) -> bool:
        """Called by the store."""
        if self._offer is not None or any(each.changed for each in self._subscriptions.values()):
            return False
        self._progress.update(generation)
        return True

    def wake(self) -> None:
        """Called by the store."""
        self._subscriber.wake.set()

    def keys_changed(self) -> None:
        """Called by the store: what led nowhere may be of use now, and the other way round."""
        before, self._keys = self._keys, self._store.keys(self._caller)
        concerned = before ^ self._keys if before is not self._keys else frozenset()
        extensions = self._subscriptions[EXTENSION]
        if KEY_LIST in extensions.sent and (concerned or self._shared):
            extensions.changed.add(KEY_LIST)
        if concerned:
            for type_url in (CLUSTER, ENDPOINTS):
                subscription = self._subscriptions[type_url]
                subscription.changed.update(name for name in subscription.sent if _key(type_url, name) in concerned)
            self._nowhere = {each for each in self._nowhere if _key(*each) not in self._keys}

    def offer_corrupt(self, generation: int) -> bool:
        """Offers the node's clusters to it in a form that it must refuse; says whether it has any."""
        names = sorted(self._subscriptions[CLUSTER].sent)
        if names:
            self._offer = generation, [corrupt_cluster(name) for name in names]
        return bool(names)

    def receive(self, request: discovery_pb2.DeltaDiscoveryRequest) -> None:
        """Takes in a subscription, an acknowledgement or a refusal."""
        if request.type_url not in self._subscriptions:
            log.warning("%r asks for %r, which is not served", self._subscriber.node, request.type_url)
            return
        subscription = self._subscriptions[request.type_url]
        if request.response_nonce:
            self._acknowledge(request)
        for name, version in request.initial_resource_versions.items():
            subscription.sent[name] = version
        for name in request.resource_names_subscribe:
            if reason := self._why_not(request.type_url, name):
                log.warning("%s asks for %.99r: ignored, %s", self._subscriber.node, name, reason)
                continue
            # What the node kept from an earlier stream is sent only if it has changed since. Asked for again within
            # a stream, it is sent again: Envoy does so when it warms a cluster anew, and waits for the answer.
            if name not in request.initial_resource_versions:
                subscription.sent[name] = ""
            subscription.changed.add(name)
        for name in request.resource_names_unsubscribe:
            subscription.sent.pop(name, None)
            subscription.changed.discard(name)
            self._nowhere.discard((request.type_url, name))
            self._progress.gives_up((request.type_url, name))
            if request.type_url == CLUSTER:
                self._progress.cluster_left(name)

    def responses(self) -> list[discovery_pb2.DeltaDiscoveryResponse]:
        """What is to be sent now."""
        generation = self._store.subscribers.generation
        result = [response for type_url in _TYPES if (response := self._response(type_url, generation)) is not None]
        if self._offer is not None:
            result.append(self._message(CLUSTER, *self._offer))
            self._offer = None
        self._progress.update(generation)
        return result

    def _response(self, type_url: str, generation: int) -> discovery_pb2.DeltaDiscoveryResponse | None:
        subscription = self._subscriptions[type_url]
        resources = []
        for name in sorted(subscription.changed):
            resource = self._resource(type_url, name)
            if resource.version != subscription.sent[name]:
                subscription.sent[name] = resource.version
                resources.append(resource)
                if type_url == CLUSTER:
                    self._progress.cluster_sent(resource, self._subscriptions[ENDPOINTS], generation)
                    self._send_again(resource.endpoint_set)
        subscription.changed.clear()
        if not resources:
            return None
        return self._message(type_url, generation, resources)

    def _resource(self, type_url: str, name: str) -> Resource:
        """What this node is told; of what it may not use, the same as of what is not there."""
        if type_url == EXTENSION:
            if name == KEY_LIST:
                return self._store.key_list(self._caller, shared=self._shared)
            return self._store.get(type_url, name)
        if self._caller is not None and _key(type_url, name) not in self._keys:
            return empty_cluster(name) if type_url == CLUSTER else endpoints(name, ())
        resource = self._store.get(type_url, name)
        return self._dress(resource) if type_url == CLUSTER else resource

    def _why_not(self, type_url: str, name: str) -> str:
        """Why a subscription is not taken; empty if it is."""
        if type_url == EXTENSION:
            return "" if name in _EXTENSIONS else "there is no such filter"
        if not is_routing_key(key := _key(type_url, name)):
            return "which is no routing key"
        if key not in self._keys:
            if len(self._nowhere) >= _MOST_NOWHERE:
                return f"{_MOST_NOWHERE} names that lead nowhere are enough"
            self._nowhere.add((type_url, name))
        return ""

    def _send_again(self, endpoint_set: str) -> None:
        """Envoy warms a cluster that has changed with endpoints, also with those that it has, and does not ask."""
        followed = self._subscriptions[ENDPOINTS]
        if followed.sent.get(endpoint_set):
            followed.sent[endpoint_set] = ""
            followed.changed.add(endpoint_set)

    def _message(
        self, type_url: str, generation: int, resources: Sequence[Resource]
    ) -> discovery_pb2.DeltaDiscoveryResponse:
        return discovery_pb2.DeltaDiscoveryResponse(
            type_url=type_url,
            nonce=self._progress.carries(generation, tuple((type_url, each.name) for each in resources)),
            system_version_info=str(generation),
            resources=[
                discovery_pb2.Resource(name=each.name, version=each.version, resource=each.body) for each in resources
            ],
        )

    def _acknowledge(self, request: discovery_pb2.DeltaDiscoveryRequest) -> None:
        refusal = request.error_detail.message if request.HasField("error_detail") else None
        generation = self._progress.answered(request.response_nonce, refusal)
        if refusal is not None:
            log.error("%r refused generation %d: %r", self._subscriber.node, generation, refusal)


def _key(type_url: str, name: str) -> str:
    return name if type_url == CLUSTER else key_of_endpoint_set(name)
