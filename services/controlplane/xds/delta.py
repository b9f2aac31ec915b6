"""The incremental variant of ADS, for Envoy.

An Envoy subscribes to what it needs (clusters on demand, then their endpoints) and receives every change while the
stream lives. That includes a resource that returns after its removal: Envoy does not ask for it again.

An Envoy that asks for all clusters by the wildcard gets those of its keys, if they are few: it could fetch none for the
first request to a key while there is no control plane.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from envoy.service.discovery.v3 import discovery_pb2

from lab.routing.keys import is_routing_key
from services.controlplane.xds import names
from services.controlplane.xds.identity import TransportSocket, plaintext
from services.controlplane.xds.idle_clusters import IdleClusters
from services.controlplane.xds.key_guard import NAME as KEY_LIST
from services.controlplane.xds.names import NAME as NAMES
from services.controlplane.xds.resources import (
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    Resource,
    corrupt_cluster,
    empty_cluster,
    endpoints,
    split_endpoint_set_name,
)
from services.controlplane.xds.store import NodeStream, ResourceStore
from services.controlplane.xds.tenants import NAME as TENANTS
from services.controlplane.xds.zones import View, everywhere

if TYPE_CHECKING:
    from services.controlplane.nodes.subscribers import Subscriber
    from services.controlplane.xds.progress import Subscription

log = logging.getLogger(__name__)

_EXTENSIONS = (KEY_LIST, NAMES, TENANTS)
_WILDCARD = "*"
# Limit of subscriptions to names that do not exist or are not permitted. A sidecar's key filter keeps it from making
# any.
_MAX_UNKNOWN = 1_024


class DeltaStream(NodeStream):
    """One Envoy's stream.

    Args:
        store, subscriber, transport_socket, view: see :class:`.store.NodeStream`.
        caller: the caller whose keys it may use; None if it may use all.
        shared: whether all callers send to it, each with its own keys.
        idle: tracks clusters that it does not use; none leave if left out.
        most_unasked: limit of its keys up to which it gets all their clusters, and keeps them.
    """

    TYPES = (CLUSTER, ENDPOINTS, EXTENSION)

    def __init__(
        self,
        store: ResourceStore,
        subscriber: Subscriber,
        transport_socket: TransportSocket = plaintext,
        *,
        caller: str | None = None,
        shared: bool = False,
        idle: IdleClusters | None = None,
        most_unasked: int = 0,
        view: View = everywhere,
    ) -> None:
        super().__init__(store, subscriber, transport_socket, view)
        self._caller, self._shared = caller, shared
        self._keys = store.keys(caller)
        self._unknown: set[tuple[str, str]] = set()
        self._offer: tuple[int, list[Resource]] | None = None
        self._idle = idle or IdleClusters(0.0)
        self._numbers: dict[str, int] = {}  # routing key → number of its cluster's name, see names
        self._names_nonce = ""  # nonce of the name list that it was sent last
        self._names_acked = False  # whether it has acknowledged that list
        self._removals: list[str] = []  # clusters whose removal has not been sent
        self._most_unasked = most_unasked
        # Its subscription to the wildcard of clusters, until the names are known that it received on an earlier stream.
        self._for_all: discovery_pb2.DeltaDiscoveryRequest | None = None
        self._wants_all = False  # whether it subscribes to the wildcard of clusters
        self._waits = False  # whether it has done so just now: it waits for an answer, which may be empty

    def resources_changed(self, changed: Mapping[str, Collection[str]]) -> None:
        """See :class:`.store.NodeStream`; a cluster may have another name on this node."""
        super().resources_changed(changed)
        if others := self._numbers.keys() & changed[CLUSTER]:
            clusters = self._subscriptions[CLUSTER]
            clusters.changed.update(name for name in clusters.sent if names.key_of(name) in others)

    def catch_up(self, generation: int) -> bool:
        """See :class:`.store.NodeStream`."""
        unsent = self._offer is not None or self._removals or self._waits
        if unsent or any(each.changed for each in self._subscriptions.values()):
            return False
        self._progress.update(generation)
        return True

    def keys_changed(self) -> None:
        """See :class:`.store.NodeStream`; subscriptions to keys that came or went are answered again."""
        before, self._keys = self._keys, self._store.keys(self._caller)
        concerned = before ^ self._keys if before is not self._keys else frozenset()
        extensions = self._subscriptions[EXTENSION]
        if KEY_LIST in extensions.sent and (concerned or self._shared):
            extensions.changed.add(KEY_LIST)
        if concerned:
            for type_url in (CLUSTER, ENDPOINTS):
                subscription = self._subscriptions[type_url]
                subscription.changed.update(name for name in subscription.sent if _key(type_url, name) in concerned)
            self._unknown = {each for each in self._unknown if _key(*each) not in self._keys}
            self._subscribe_unasked()

    def offer_corrupt(self, generation: int) -> bool:
        """See :class:`.store.NodeStream`."""
        names = sorted(self._subscriptions[CLUSTER].sent)
        if names:
            self._offer = generation, [corrupt_cluster(name) for name in names]
        return bool(names)

    def reported(self, used: Mapping[str, bool]) -> None:
        """Takes in a load report: cluster → whether it was used since the last report, or is in use."""
        unasked = set(self._unasked())
        held = [name for name, version in self._subscriptions[CLUSTER].sent.items() if version and name not in unasked]
        idle, gone = self._idle.reported(used, held, named=self._names_acked)
        for name in idle:
            self._idle.mark_leaving(name)
            if not self._is_retired(CLUSTER, name):
                self._numbers[names.key_of(name)] = names.number_of(name) + 1
                self._names_acked = False
                self._subscriptions[EXTENSION].changed.add(NAMES)
        for name in gone:
            self._idle.forget(name)
            self._forget(CLUSTER, name)
        self._removals += gone
        self.subscriber.clusters_left += len(gone)
        if idle or gone:
            log.info("%s: %d idle clusters let go, %d gone", self.subscriber.node, len(idle), len(gone))
            self.subscriber.wake.set()

    def receive(self, request: discovery_pb2.DeltaDiscoveryRequest) -> None:
        """See :class:`.store.NodeStream`."""
        if not self._serves(request.type_url):
            return
        subscription = self._subscriptions[request.type_url]
        if request.response_nonce and self._acknowledge(request) and request.response_nonce == self._names_nonce:
            self._names_acked = True
        if request.initial_resource_versions:
            self.subscriber.holds_earlier_state()
            subscription.sent.update(request.initial_resource_versions)
        self._learn_names(request)
        if _is_for_all_clusters(request):
            self._for_all, self._waits = request, True
        else:
            self._subscribe(request, subscription)
        if self._for_all is not None and NAMES in self._subscriptions[EXTENSION].sent:
            self._subscribe(self._for_all, self._subscriptions[CLUSTER])
            self._for_all, self._wants_all = None, True
            self._subscribe_unasked()
        for name in request.resource_names_unsubscribe:
            self._forget(request.type_url, name)

    def _subscribe(self, request: discovery_pb2.DeltaDiscoveryRequest, subscription: Subscription) -> None:
        asked = dict.fromkeys(request.resource_names_subscribe)
        if _is_for_all_clusters(request):  # it does not name what it holds by the wildcard
            asked |= dict.fromkeys(request.initial_resource_versions)
            asked.pop(_WILDCARD, None)
        for name in asked:
            if self._is_retired(request.type_url, name):
                if name in request.initial_resource_versions:
                    self._idle.mark_leaving(name)
                else:
                    continue  # it has left; the node repeats every name that it ever subscribed to
            if reason := self._refusal_reason(request.type_url, name):
                log.warning("%s asks for %.99r: ignored, %s", self.subscriber.node, name, reason)
                continue
            # A resource kept from an earlier stream is sent only if it changed. Within a stream, it is sent again:
            # Envoy asks again when it warms a cluster, and waits for the answer.
            if name not in request.initial_resource_versions:
                subscription.sent[name] = ""
            subscription.changed.add(name)

    def _unasked(self) -> list[str]:
        """Names of the clusters that it has without asking for each."""
        if not self._wants_all or len(self._keys) > self._most_unasked:
            return []
        return [names.name_of(key, self._numbers.get(key, 0)) for key in self._keys]

    def _subscribe_unasked(self) -> None:
        subscription = self._subscriptions[CLUSTER]
        for name in self._unasked():
            if name not in subscription.sent:
                subscription.sent[name] = ""
                subscription.changed.add(name)

    def _forget(self, type_url: str, name: str) -> None:
        super()._forget(type_url, name)
        self._unknown.discard((type_url, name))

    def _learn_names(self, request: discovery_pb2.DeltaDiscoveryRequest) -> None:
        """Learns names that the node received on an earlier stream from what it holds and subscribes to."""
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

    def _is_retired(self, type_url: str, name: str) -> bool:
        """Whether it is a cluster name that its key no longer uses."""
        return type_url == CLUSTER and names.number_of(name) < self._numbers.get(names.key_of(name), 0)

    def responses(self) -> list[discovery_pb2.DeltaDiscoveryResponse]:
        """The responses to send now."""
        generation = self._store.subscribers.generation
        result = [response for type_url in self.TYPES if (response := self._response(type_url, generation)) is not None]
        if self._removals:
            result.append(self._message(CLUSTER, generation, (), self._removals))
            self._removals = []
        if self._offer is not None:
            generation_of_offer, corrupt = self._offer
            # It is not part of the state, so its refusal leaves nothing outstanding.
            result.append(self._message(CLUSTER, generation_of_offer, corrupt, tracked=False))
            self._offer = None
        self._progress.update(generation)
        self.subscriber.clusters = len(self._subscriptions[CLUSTER].sent)
        return result

    def _response(self, type_url: str, generation: int) -> discovery_pb2.DeltaDiscoveryResponse | None:
        subscription = self._subscriptions[type_url]
        resources = []
        for name in sorted(subscription.changed):
            resource = self._resource(type_url, name)
            if type_url == CLUSTER:
                # Also of a cluster from an earlier stream: its endpoints may be older than it, which shows only once
                # the node names them.
                self._progress.cluster_sent(resource, self._subscriptions[ENDPOINTS], generation)
            if resource.version == subscription.sent[name]:
                self._names_acked |= name == NAMES
                self._progress.holds((type_url, name))
            else:
                subscription.sent[name] = resource.version
                resources.append(resource)
                if type_url == CLUSTER:
                    self._send_again(resource.endpoint_set)
        subscription.changed.clear()
        waits = self._waits and type_url == CLUSTER
        if waits:
            self._waits = False
        if not resources and not waits:
            return None
        message = self._message(type_url, generation, resources)
        if any(each.name == NAMES for each in resources):
            self._names_nonce, self._names_acked = message.nonce, False
        return message

    def _resource(self, type_url: str, name: str) -> Resource:
        """The resource for this node; a key that it may not use looks as if it did not exist."""
        if type_url == EXTENSION:
            if name == KEY_LIST:
                return self._store.key_list(self._caller, shared=self._shared)
            if name == NAMES:
                return names.name_list(self._numbers)
            return self._store.get(type_url, name)
        may_use = self._caller is None or _key(type_url, name) in self._keys
        if type_url == ENDPOINTS:
            return self._view(type_url, self._store.get(type_url, name)) if may_use else endpoints(name, ())
        key = names.key_of(name)
        if not may_use:
            found = empty_cluster(key)
        else:
            found = self._transport_socket(self._view(type_url, self._store.get(type_url, key)))
        return found if name == key else names.renamed(found, name)

    def _refusal_reason(self, type_url: str, name: str) -> str:
        """Why a subscription is ignored; empty if it is accepted."""
        if type_url == EXTENSION:
            return "" if name in _EXTENSIONS else "there is no such filter"
        key = _key(type_url, name)
        if not is_routing_key(key) or (type_url == CLUSTER and not names.is_name_of(name, key)):
            return "which is not a routing key"
        if key not in self._keys:
            if len(self._unknown) >= _MAX_UNKNOWN:
                return f"{_MAX_UNKNOWN} names that lead nowhere are enough"
            self._unknown.add((type_url, name))
        return ""

    def _send_again(self, endpoint_set: str) -> None:
        """Sends the endpoints of a changed cluster again: Envoy warms it with them, but does not ask."""
        followed = self._subscriptions[ENDPOINTS]
        if followed.sent.get(endpoint_set):
            followed.sent[endpoint_set] = ""
            followed.changed.add(endpoint_set)

    def _message(
        self,
        type_url: str,
        generation: int,
        resources: Sequence[Resource],
        removed: Sequence[str] = (),
        *,
        tracked: bool = True,
    ) -> discovery_pb2.DeltaDiscoveryResponse:
        names = tuple((type_url, each.name) for each in resources) if tracked else ()
        return discovery_pb2.DeltaDiscoveryResponse(
            type_url=type_url,
            nonce=self._progress.carries(generation, names),
            system_version_info=str(generation),
            resources=[
                discovery_pb2.Resource(name=each.name, version=each.version, resource=each.body) for each in resources
            ],
            removed_resources=removed,
        )


def _is_for_all_clusters(request: discovery_pb2.DeltaDiscoveryRequest) -> bool:
    """Whether it subscribes to the wildcard, or is the first of its stream and names nothing, which means the same."""
    asked, others = request.resource_names_subscribe, request.response_nonce or request.resource_names_unsubscribe
    return request.type_url == CLUSTER and (_WILDCARD in asked or not (asked or others))


def _key(type_url: str, name: str) -> str:
    return names.key_of(name) if type_url == CLUSTER else split_endpoint_set_name(name)[1]
