"""The clusters and endpoints in force, and who has to hear of a change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from services.controlplane.subscribers import Subscribers
from services.controlplane.xds.resources import CLUSTER, ENDPOINTS, Resource, cluster, empty_cluster, endpoints

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class ChangeListener(Protocol):
    """A stream that may be subscribed to what changed."""

    def resource_changed(self, type_url: str, name: str) -> None:
        """The resource is not what it was."""


class ResourceStore:
    """What every sidecar would be told if it asked.

    Attributes:
        subscribers: the sidecars that are connected.
    """

    def __init__(self) -> None:
        self.subscribers = Subscribers()
        self._resources: dict[str, dict[str, Resource]] = {CLUSTER: {}, ENDPOINTS: {}}
        self._listeners: set[ChangeListener] = set()

    def add_listener(self, listener: ChangeListener) -> None:
        """From now on the listener hears of changes."""
        self._listeners.add(listener)

    def discard_listener(self, listener: ChangeListener) -> None:
        """The listener has gone."""
        self._listeners.discard(listener)

    @property
    def endpoint_sets(self) -> list[str]:
        """Names of all that are held."""
        return list(self._resources[ENDPOINTS])

    def get(self, type_url: str, name: str) -> Resource:
        """The resource; an empty one if there is none of that name, so that nobody waits for it."""
        found = self._resources[type_url].get(name)
        if found is not None:
            return found
        return empty_cluster(name) if type_url == CLUSTER else endpoints(name, ())

    def update(
        self,
        *,
        clusters: Mapping[str, str] | None = None,
        removed_clusters: Iterable[str] = (),
        endpoint_sets: Mapping[str, Iterable[str]] | None = None,
        removed_endpoint_sets: Iterable[str] = (),
    ) -> int:
        """Applies a change and returns the generation that carries it.

        Args:
            clusters: routing key → model cluster.
            removed_clusters: routing keys that map to nothing any longer.
            endpoint_sets: endpoint set → addresses.
            removed_endpoint_sets: endpoint sets that nobody needs any longer.
        """
        changed = [
            *self._put(CLUSTER, (cluster(key, model_cluster) for key, model_cluster in (clusters or {}).items())),
            *self._put(ENDPOINTS, (endpoints(name, addresses) for name, addresses in (endpoint_sets or {}).items())),
            *self._remove(CLUSTER, removed_clusters),
            *self._remove(ENDPOINTS, removed_endpoint_sets),
        ]
        generation = self.subscribers.next_generation()
        for listener in self._listeners:
            for type_url, name in changed:
                listener.resource_changed(type_url, name)
        self.subscribers.wake_all()
        return generation

    def _put(self, type_url: str, resources: Iterable[Resource]) -> list[tuple[str, str]]:
        held = self._resources[type_url]
        changed = []
        for resource in resources:
            before = held.get(resource.name)
            if before is None or before.version != resource.version:
                held[resource.name] = resource
                changed.append((type_url, resource.name))
        return changed

    def _remove(self, type_url: str, names: Iterable[str]) -> list[tuple[str, str]]:
        return [(type_url, name) for name in names if self._resources[type_url].pop(name, None) is not None]
