"""The incremental variant of the aggregated discovery service, for Envoy.

An Envoy names what it needs (clusters on demand, then their endpoints) and is told of every change to it for as long
as the stream lives, also when something comes back that was gone: after a removal Envoy does not ask again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from envoy.service.discovery.v3 import discovery_pb2

from lab.routing.keys import is_routing_key
from services.controlplane.xds import names
from services.controlplane.xds.identity import plaintext
from services.controlplane.xds.idle import Idle
from services.controlplane.xds.keys import NAME as KEY_LIST
from services.controlplane.xds.names import NAME as NAMES
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

    from services.controlplane.nodes.subscribers import Subscriber
    from services.controlplane.xds.identity import TransportSocket
    from services.controlplane.xds.store import ResourceStore

log = logging.getLogger(__name__)

# Clusters before endpoints: the order in which Envoy can use them.
_TYPES = (CLUSTER, ENDPOINTS, EXTENSION)
_EXTENSIONS = (KEY_LIST, NAMES, TENANTS)
# Of names that lead nowhere, or that the node may not use. Its own list of keys keeps a sidecar from asking for any.
_MOST_NOWHERE = 1_024


class DeltaStream:
    """One Envoy's stream: what it subscribes to, what it was sent, what it has acknowledged.

    Args:
        store: what there is.
        subscriber: the node.
        transport_socket: makes of a cluster what the node is told.
        caller: whose keys alone it may use; None if it may use all.
        shared: whether all callers send to it, so that it lets each use what that one may.
        idle: says which clusters it has no use for; none, if left out.
    """

    def __init__(
        self,
        store: ResourceStore,
        subscriber: Subscriber,
        transport_socket: TransportSocket = plaintext,
        *,
        caller: str | None = None,
        shared: bool = False,
        idle: Idle | None = None,
    ) -> None:
        self.node = subscriber.node
        self._store = store
        self._transport_socket = transport_socket
        self._subscriber = subscriber
        self._subscriptions = {type_url: Subscription() for type_url in _TYPES}
        self._progress = Progress(subscriber, store.subscribers.generation)
        self._caller, self._shared = caller, shared
        self._keys = store.keys(caller)
        self._nowhere: set[tuple[str, str]] = set()
        self._offer: tuple[int, list[Resource]] | None = None
        self._idle = idle or Idle(0.0)
        self._numbers: dict[str, int] = {}  # routing key → number of its cluster's name; see names
        self._named = ""  # nonce of the names that it was told last
        self._has_names = False  # it has acknowledged these
        self._gone: list[str] = []  # clusters that it is to be told are no more

    def resources_changed(self, changed: Mapping[str, Collection[str]]) -> None:
        """Called by the store."""
        for type_url, concerned in changed.items():
            subscription = self._subscriptions[type_url]
            subscription.changed |= subscription.sent.keys() & concerned
            if type_url == CLUSTER and (others := self._numbers.keys() & concerned):
                subscription.changed.update(name for name in subscription.sent if names.key_of(name) in others)

    def catch_up(self, generation: int) -> bool:
        """Called by the store."""
        if self._offer is not None or self._gone or any(each.changed for each in self._subscriptions.values()):
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

    def reported(self, used: Mapping[str, bool]) -> None:
        """The node says of its clusters whether each was used since it last said so, or is."""
        held = [name for name, version in self._subscriptions[CLUSTER].sent.items() if version]
        idle, gone = self._idle.reported(used, held, named=self._has_names)
        for name in idle:
            self._idle.lets_go(name)
            if not self._is_past(CLUSTER, name):
                self._numbers[names.key_of(name)] = names.number_of(name) + 1
                self._has_names = False
                self._subscriptions[EXTENSION].changed.add(NAMES)
        for name in gone:
            self._idle.has_left(name)
            self._forget(CLUSTER, name)
        self._gone += gone
        self._subscriber.clusters_left += len(gone)
        if idle or gone:
            log.info("%s: %d idle clusters let go, %d gone", self.node, len(idle), len(gone))
            self.wake()

    def receive(self, request: discovery_pb2.DeltaDiscoveryRequest) -> None:
        """Takes in a subscription, an acknowledgement or a refusal."""
        if request.type_url not in self._subscriptions:
            log.warning("%r asks for %r, which is not served", self._subscriber.node, request.type_url)
            return
        subscription = self._subscriptions[request.type_url]
        if request.response_nonce:
            self._acknowledge(request)
        if request.initial_resource_versions:
            self._subscriber.has_brought()
            subscription.sent.update(request.initial_resource_versions)
        self._learn_names(request)
        self._subscribe(request, subscription)
        for name in request.resource_names_unsubscribe:
            self._forget(request.type_url, name)

    def _subscribe(self, request: discovery_pb2.DeltaDiscoveryRequest, subscription: Subscription) -> None:
        for name in request.resource_names_subscribe:
            if self._is_past(request.type_url, name):
                if name in request.initial_resource_versions:
                    self._idle.lets_go(name)
                else:
                    continue  # it has left; the node repeats all names that it ever asked for
            if reason := self._why_not(request.type_url, name):
                log.warning("%s asks for %.99r: ignored, %s", self._subscriber.node, name, reason)
                continue
            # What the node kept from an earlier stream is sent only if it has changed since. Asked for again within
            # a stream, it is sent again: Envoy does so when it warms a cluster anew, and waits for the answer.
            if name not in request.initial_resource_versions:
                subscription.sent[name] = ""
            subscription.changed.add(name)

    def _forget(self, type_url: str, name: str) -> None:
        """The node has no use for it any longer."""
        self._subscriptions[type_url].sent.pop(name, None)
        self._subscriptions[type_url].changed.discard(name)
        self._nowhere.discard((type_url, name))
        self._progress.gives_up((type_url, name))
        if type_url == CLUSTER:
            self._progress.cluster_left(name)

    def _learn_names(self, request: discovery_pb2.DeltaDiscoveryRequest) -> None:
        """A node that was told of names before this stream began shows it by what it has, and asks for."""
        if request.type_url == EXTENSION:
            known = names.numbers_in(request.initial_resource_versions.get(NAMES, ""))
        elif request.type_url == CLUSTER:
            known = {names.key_of(name): names.number_of(name) for name in request.resource_names_subscribe}
            for name in request.resource_names_subscribe:
                known[names.key_of(name)] = max(known[names.key_of(name)], names.number_of(name))
        else:
            return
        newer = {
            key: number for key, number in known.items() if number > self._numbers.get(key, 0) and is_routing_key(key)
        }
        if newer:
            self._numbers |= newer
            if NAMES in self._subscriptions[EXTENSION].sent:
                self._subscriptions[EXTENSION].changed.add(NAMES)

    def _is_past(self, type_url: str, name: str) -> bool:
        """Whether it is a cluster's name that its key had before."""
        return type_url == CLUSTER and names.number_of(name) < self._numbers.get(names.key_of(name), 0)

    def responses(self) -> list[discovery_pb2.DeltaDiscoveryResponse]:
        """What is to be sent now."""
        generation = self._store.subscribers.generation
        result = [response for type_url in _TYPES if (response := self._response(type_url, generation)) is not None]
        if self._gone:
            result.append(self._message(CLUSTER, generation, (), self._gone))
            self._gone = []
        if self._offer is not None:
            result.append(self._message(CLUSTER, *self._offer))
            self._offer = None
        self._progress.update(generation)
        self._subscriber.clusters = len(self._subscriptions[CLUSTER].sent)
        return result

    def _response(self, type_url: str, generation: int) -> discovery_pb2.DeltaDiscoveryResponse | None:
        subscription = self._subscriptions[type_url]
        resources = []
        for name in sorted(subscription.changed):
            resource = self._resource(type_url, name)
            if resource.version == subscription.sent[name]:
                self._has_names |= name == NAMES
            else:
                subscription.sent[name] = resource.version
                resources.append(resource)
                if type_url == CLUSTER:
                    self._progress.cluster_sent(resource, self._subscriptions[ENDPOINTS], generation)
                    self._send_again(resource.endpoint_set)
        subscription.changed.clear()
        if not resources:
            return None
        message = self._message(type_url, generation, resources)
        if any(each.name == NAMES for each in resources):
            self._named, self._has_names = message.nonce, False
        return message

    def _resource(self, type_url: str, name: str) -> Resource:
        """What this node is told; of what it may not use, the same as of what is not there."""
        if type_url == EXTENSION:
            if name == KEY_LIST:
                return self._store.key_list(self._caller, shared=self._shared)
            if name == NAMES:
                return names.name_list(self._numbers)
            return self._store.get(type_url, name)
        may_use = self._caller is None or _key(type_url, name) in self._keys
        if type_url == ENDPOINTS:
            return self._store.get(type_url, name) if may_use else endpoints(name, ())
        key = names.key_of(name)
        found = self._transport_socket(self._store.get(type_url, key)) if may_use else empty_cluster(key)
        return found if name == key else names.renamed(found, name)

    def _why_not(self, type_url: str, name: str) -> str:
        """Why a subscription is not taken; empty if it is."""
        if type_url == EXTENSION:
            return "" if name in _EXTENSIONS else "there is no such filter"
        key = _key(type_url, name)
        if not is_routing_key(key) or (type_url == CLUSTER and not names.is_name_of(name, key)):
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
        self, type_url: str, generation: int, resources: Sequence[Resource], removed: Sequence[str] = ()
    ) -> discovery_pb2.DeltaDiscoveryResponse:
        return discovery_pb2.DeltaDiscoveryResponse(
            type_url=type_url,
            nonce=self._progress.carries(generation, tuple((type_url, each.name) for each in resources)),
            system_version_info=str(generation),
            resources=[
                discovery_pb2.Resource(name=each.name, version=each.version, resource=each.body) for each in resources
            ],
            removed_resources=removed,
        )

    def _acknowledge(self, request: discovery_pb2.DeltaDiscoveryRequest) -> None:
        refusal = request.error_detail.message if request.HasField("error_detail") else None
        generation = self._progress.answered(request.response_nonce, refusal)
        if refusal is not None:
            log.error("%r refused generation %d: %r", self._subscriber.node, generation, refusal)
        elif request.response_nonce == self._named:
            self._has_names = True


def _key(type_url: str, name: str) -> str:
    return names.key_of(name) if type_url == CLUSTER else key_of_endpoint_set(name)
