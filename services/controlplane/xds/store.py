"""The clusters, endpoints and listeners in force, and the streams to inform of changes."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from lab.clock import lab_time_ns
from lab.pickers import DEFAULT_PICKER, PICKERS
from lab.plain_text import MAX_CHARACTERS, printable
from services.controlplane.nodes.subscribers import Subscriber, Subscribers
from services.controlplane.xds.key_guard import NAME as KEY_LIST
from services.controlplane.xds.key_guard import key_list, shared_key_list
from services.controlplane.xds.progress import Progress, Subscription
from services.controlplane.xds.resources import (
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    Resource,
    cluster,
    empty_cluster,
    endpoints,
    listener,
)
from services.controlplane.xds.tenants import NAME as TENANTS
from services.controlplane.xds.tenants import tenant_limits

if TYPE_CHECKING:
    from lab.routing.resilience import Policy
    from services.controlplane.xds.identity import TransportSocket
    from services.controlplane.xds.zones import View

log = logging.getLogger(__name__)

_NOBODY: frozenset[str] = frozenset()


class NodeStream(ABC):
    """One node's stream: its subscriptions, what it was sent, what it has acknowledged.

    The store informs it of changes.

    Args:
        store: the resources.
        subscriber: the node.
        transport_socket: adds the node's TLS settings to a cluster.
        view: how the node sees clusters and endpoints from its zone.
    """

    TYPES: ClassVar[tuple[str, ...]]
    """Types of the resources that it carries, in the order in which the node can use them."""

    def __init__(
        self, store: ResourceStore, subscriber: Subscriber, transport_socket: TransportSocket, view: View
    ) -> None:
        self.subscriber = subscriber
        self._store, self._transport_socket, self._view = store, transport_socket, view
        self._subscriptions = {type_url: Subscription() for type_url in self.TYPES}
        self._progress = Progress(subscriber, store.subscribers.generation)

    def resources_changed(self, changed: Mapping[str, Collection[str]]) -> None:
        """These resources changed: type → names."""
        for type_url in self._subscriptions.keys() & changed:
            subscription = self._subscriptions[type_url]
            subscription.changed |= subscription.sent.keys() & changed[type_url]

    @abstractmethod
    def catch_up(self, generation: int) -> bool:
        """Returns whether nothing needs to be sent up to a generation; if so, counts it as applied."""

    @abstractmethod
    def keys_changed(self) -> None:
        """The keys of callers may have changed."""

    @abstractmethod
    def offer_corrupt(self, generation: int) -> bool:
        """Offers the node its resources in an invalid form; returns whether it has any."""

    @abstractmethod
    def receive(self, request: Any) -> None:
        """Takes in a subscription, an acknowledgement or a refusal; one request may be two of these."""

    @abstractmethod
    def responses(self) -> Sequence[Any]:
        """The responses to send now."""

    def _serves(self, type_url: str) -> bool:
        if type_url not in self._subscriptions:
            log.warning("%r asks for %r, which is not served", self.subscriber.node, type_url)
        return type_url in self._subscriptions

    def _acknowledge(self, request: Any, *, of_all: str = "") -> bool:
        """Takes in the answer to a response, see :meth:`Progress.answered`; returns whether the node accepted it."""
        refusal = printable(request.error_detail.message, MAX_CHARACTERS) if request.HasField("error_detail") else None
        generation = self._progress.answered(request.response_nonce, refusal, of_all=of_all)
        if refusal is not None:
            log.error("%r refused generation %d: %.300r", self.subscriber.node, generation, refusal)
        return refusal is None

    def _forget(self, type_url: str, name: str) -> None:
        """Drops the node's subscription to a resource."""
        self._subscriptions[type_url].sent.pop(name, None)
        self._subscriptions[type_url].changed.discard(name)
        self._progress.gives_up((type_url, name))
        if type_url == CLUSTER:
            self._progress.cluster_left(name)


class ResourceStore:
    """The resources of all nodes.

    Args:
        keys_for: caller → routing keys that it may use, as the same frozenset until they change; all if left out.
        now_ns: the clock, Unix nanoseconds.
        callers: names of the callers.

    Attributes:
        subscribers: the connected Envoys and gRPC clients.
        is_filled: whether a table was ever put here.
        picker: picks the replica of each cluster.
    """

    def __init__(
        self,
        keys_for: Callable[[str], Collection[str]] | None = None,
        now_ns: Callable[[], int] = lab_time_ns,
        callers: Callable[[], Collection[str]] = lambda: _NOBODY,
    ) -> None:
        self.subscribers = Subscribers(now_ns)
        self.is_filled = False
        self.picker = PICKERS[DEFAULT_PICKER]
        # They decide nothing: what they still send to an old place, no replica there answers.
        self.subscribers.leaves_silent_behind = True
        self._keys_for, self._callers = keys_for, callers
        self._key_lists: dict[tuple[str | None, bool], Resource] = {}
        self._keys_by_caller: dict[str | None, frozenset[str]] = {}
        self._permitted: dict[str | None, Collection[str]] = {}  # what each of them may use, with a cluster or without
        self._listed_callers: frozenset[str] = _NOBODY  # in the key filter of Envoys that all callers share
        self._listeners_by_caller: dict[str, Resource] = {}
        self._policies: dict[str, Policy] = {}
        # The parts of each resource, and the resources built so far: of thousands, most are never requested.
        self._parts: dict[str, dict[str, tuple[Any, ...]]] = {CLUSTER: {}, ENDPOINTS: {}, EXTENSION: {}}
        self._made: dict[str, dict[str, Resource]] = {CLUSTER: {}, ENDPOINTS: {}, EXTENSION: {}}
        self._streams: set[NodeStream] = set()

    def add_listener(self, listener: NodeStream) -> None:
        """Informs a stream of changes from now on."""
        self._streams.add(listener)

    def discard_listener(self, listener: NodeStream) -> None:
        """Stops informing a stream."""
        self._streams.discard(listener)

    def get(self, type_url: str, name: str) -> Resource:
        """The resource; an empty one if there is none of that name, so that no node waits for it."""
        found = self.find(type_url, name)
        if found is not None:
            return found
        if type_url == EXTENSION:
            return tenant_limits({})
        return empty_cluster(name) if type_url == CLUSTER else endpoints(name, ())

    def find(self, type_url: str, name: str) -> Resource | None:
        """The resource, or None."""
        made = self._made[type_url].get(name)
        if made is None and (parts := self._parts[type_url].get(name)) is not None:
            made = self._made[type_url][name] = _MAKERS[type_url](name, *parts)
        return made

    def listener(self, caller: str) -> Resource:
        """The listener of a caller's gRPC clients, with a route for each permitted key that has a cluster."""
        found = self._listeners_by_caller.get(caller)
        if found is None:
            found = self._listeners_by_caller[caller] = listener(self.keys(caller), self._policies)
        return found

    def keys(self, caller: str | None) -> frozenset[str]:
        """Routing keys that a caller may use and that have a cluster; all that have one if None.

        Returns the same object until the keys change: streams compare by identity, not thousands of keys.
        """
        found = self._keys_by_caller.get(caller)
        if found is None:
            self._permitted[caller] = permitted = self._may_use(caller)
            found = self._keys_by_caller[caller] = frozenset(self._parts[CLUSTER].keys() & permitted)
        return found

    def _may_use(self, caller: str | None) -> Collection[str]:
        clusters = self._parts[CLUSTER].keys()
        return clusters if caller is None or self._keys_for is None else self._keys_for(caller)

    def _refresh_keys(self, came_or_went: set[str]) -> None:
        """Updates the keys of callers that may use other keys, or keys whose cluster came or went."""
        changed = set()
        for caller, before in self._keys_by_caller.items():
            may_use, same = self._may_use(caller), self._permitted[caller]
            if isinstance(may_use, frozenset) and may_use is same and came_or_went.isdisjoint(may_use):
                continue
            self._permitted[caller] = may_use
            if (after := frozenset(self._parts[CLUSTER].keys() & may_use)) != before:
                self._keys_by_caller[caller] = after
                changed.add(caller)
        for caller in changed:
            self._listeners_by_caller.pop(caller or "", None)
        callers = frozenset(self._callers())
        is_shared_stale = bool(changed) or callers != self._listed_callers
        self._listed_callers = callers
        for caller, shared in list(self._key_lists):
            if is_shared_stale if shared else caller in changed:
                del self._key_lists[caller, shared]

    def key_list(self, caller: str | None, *, shared: bool) -> Resource:
        """The key filter of an Envoy.

        Args:
            caller: the caller whose keys it lets through; None for all keys.
            shared: whether all callers send to it; each authenticated caller is then limited to its own keys.
        """
        found = self._key_lists.get((caller, shared))
        if found is None:
            found = self._key_lists[caller, shared] = self._shared_key_list() if shared else key_list(self.keys(caller))
        return found

    def _shared_key_list(self) -> Resource:
        of_callers = {each: self.keys(each) for each in self._callers()}
        [tenants] = self._parts[EXTENSION].get(TENANTS, ({},))
        return shared_key_list(self.keys(None), of_callers, tenants)

    def update(
        self,
        *,
        clusters: Mapping[str, str] | None = None,
        policies: Mapping[str, Policy] | None = None,
        failovers: Mapping[str, str] | None = None,
        removed_clusters: Iterable[str] | None = None,
        endpoint_sets: Mapping[str, Iterable[str]] | None = None,
        standby: Mapping[str, Iterable[str]] | None = None,
        removed_endpoint_sets: Iterable[str] = (),
        tenants: Mapping[str, Any] | None = None,
    ) -> int:
        """Applies a change and returns its generation.

        Args:
            clusters: routing key → model cluster. If given, even if empty, callers' keys are brought up to date.
            policies: routing key → policy, for keys in ``clusters``; others have none.
            failovers: routing key → failover cluster, for keys in ``clusters``; others have none.
            removed_clusters: routing keys without a cluster from now on; likewise.
            endpoint_sets: endpoint set → addresses.
            standby: endpoint set in ``endpoint_sets`` → addresses of its standby replicas.
            removed_endpoint_sets: endpoint sets that no node needs any longer.
            tenants: the route table's section; unchanged if left out.
        """
        touched = {*(clusters or ()), *(removed_clusters or ())}
        came_or_went = {key for key in touched if (key in (clusters or ())) != (key in self._parts[CLUSTER])}
        before = {key: policy for key in touched if (policy := self._policies.pop(key, None)) is not None}
        self._policies.update(policies or {})
        if before != (policies or {}):
            self._listeners_by_caller.clear()
        treated, others, stand_ins = self._policies.get, standby or {}, failovers or {}
        changed = {
            CLUSTER: self._put(
                CLUSTER,
                {
                    key: (its, treated(key), stand_ins.get(key, ""), self.picker)
                    for key, its in (clusters or {}).items()
                },
            )
            | self._remove(CLUSTER, removed_clusters or ()),
            ENDPOINTS: self._put(
                ENDPOINTS,
                {name: (sorted(its), sorted(others.get(name, ()))) for name, its in (endpoint_sets or {}).items()},
            )
            | self._remove(ENDPOINTS, removed_endpoint_sets),
            EXTENSION: self._put(EXTENSION, {} if tenants is None else {TENANTS: (tenants,)}),
        }
        if changed[EXTENSION]:
            # In a shared Envoy the key filter also picks the tenant.
            changed[EXTENSION].add(KEY_LIST)
            self._key_lists.clear()
        self.is_filled = self.is_filled or clusters is not None
        if clusters is not None or removed_clusters is not None:
            self._refresh_keys(came_or_went)
            for stream in self._streams:
                stream.keys_changed()
        generation = self.subscribers.next_generation()
        for stream in self._streams:
            stream.resources_changed(changed)
            # Most changes concern few nodes; the others are not woken.
            if not stream.catch_up(generation):
                stream.subscriber.wake.set()
        return generation

    def offer_corrupt(self, nodes: Collection[str]) -> tuple[int, list[str]]:
        """Offers Envoys their clusters in an invalid form; the store's state does not change.

        Args:
            nodes: names of the Envoys.

        Returns:
            Generation of the offer, and names of the Envoys that had a cluster to offer.
        """
        generation = self.subscribers.next_generation()
        names = {stream: stream.subscriber.node for stream in self._streams}
        offered = [name for stream, name in names.items() if name in nodes and stream.offer_corrupt(generation)]
        self.subscribers.wake_all()
        return generation, offered

    def restate(self) -> None:
        """Has every node acknowledge its state again."""
        self.subscribers.next_generation()
        self.subscribers.wake_all()

    def _put(self, type_url: str, parts: Mapping[str, tuple[Any, ...]]) -> set[str]:
        held, made = self._parts[type_url], self._made[type_url]
        changed = {name for name, its in parts.items() if held.get(name) != its}
        for name in changed:
            held[name] = parts[name]
            made.pop(name, None)
        return changed

    def _remove(self, type_url: str, names: Iterable[str]) -> set[str]:
        removed = {name for name in names if self._parts[type_url].pop(name, None) is not None}
        for name in removed:
            self._made[type_url].pop(name, None)
        return removed


_MAKERS: Mapping[str, Callable[..., Resource]] = {
    CLUSTER: cluster,
    ENDPOINTS: endpoints,
    EXTENSION: lambda _, tenants: tenant_limits(tenants),
}
"""Type → function that builds a resource from its name and parts."""
