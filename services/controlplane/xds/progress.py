"""How far one stream's node has come: what it was sent, has acknowledged, and has yet to subscribe to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.controlplane.xds.resources import ENDPOINTS, Resource

if TYPE_CHECKING:
    from services.controlplane.nodes.subscribers import Subscriber

Name = tuple[str, str]
"""Type and name of a resource."""


@dataclass(slots=True)
class Subscription:
    """One stream's subscriptions to one type.

    Attributes:
        sent: name → version that the node holds, empty before the first.
        changed: names whose version may have changed since.
    """

    sent: dict[str, str] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)


class Progress:
    """Tracks which generation a subscriber has applied.

    A resource is in force only once those that it refers to are: a cluster needs its endpoints, to which the node
    subscribes after it has acknowledged the cluster. Until these are acknowledged too, they are *awaited*.

    A refused resource is outstanding until another version of it is acknowledged: the node acts on the one before.

    Args:
        subscriber: the node.
        built: the generation up to which everything was sent.
    """

    def __init__(self, subscriber: Subscriber, built: int) -> None:
        self._subscriber = subscriber
        self._built = built
        self._nonce = 0
        self._unacknowledged: dict[int, tuple[int, tuple[Name, ...]]] = {}  # nonce → generation and resources
        self._refused: dict[Name, int] = {}  # resource → generation of the response that was refused
        self._awaited: dict[Name, int] = {}  # resource → generation of the resource that refers to it
        self._endpoint_sets: dict[str, str] = {}  # cluster → endpoint set in its last version

    def carries(self, generation: int, names: tuple[Name, ...]) -> str:
        """Registers a response with these resources; returns its nonce."""
        self._nonce += 1
        self._unacknowledged[self._nonce] = (generation, names)
        return str(self._nonce)

    def answered(self, nonce: str, refusal: str | None, *, of_all: str = "") -> int:
        """Registers an acknowledgement or a refusal.

        Args:
            nonce: of the response.
            refusal: why it was refused; None if it was acknowledged.
            of_all: type for which the answer also covers earlier responses.

        Returns:
            Generation of the response, 0 if it was answered before.
        """
        number = int(nonce) if nonce.isdecimal() else 0
        generation, names = self._unacknowledged.get(number, (0, ()))
        for each in [number, *(each for each in self._unacknowledged if each < number and self._is_of(each, of_all))]:
            for name in self._unacknowledged.pop(each, (0, ()))[1]:
                self._awaited.pop(name, None)
                self._refused.pop(name, None)
        if refusal is not None:
            self._refused |= dict.fromkeys(names, generation)
            self._subscriber.refused = generation
            self._subscriber.error = refusal
        self.update()
        return generation

    def _is_of(self, number: int, type_url: str) -> bool:
        return any(of_type == type_url for of_type, _ in self._unacknowledged[number][1])

    def refers_to(self, name: Name, generation: int) -> None:
        """Awaits a resource that one just sent refers to, and that the node does not hold yet."""
        self._awaited.setdefault(name, generation)

    def holds(self, name: Name) -> None:
        """Registers that nothing need be sent of a resource; a refused one stays outstanding."""
        self._awaited.pop(name, None)

    def cluster_sent(self, cluster: Resource, known: Subscription, generation: int) -> None:
        """Registers a cluster that is sent or held; awaits its endpoints unless the node subscribes to them."""
        before = self._endpoint_sets.pop(cluster.name, "")
        if before != cluster.endpoint_set:
            self.gives_up((ENDPOINTS, before))
        if cluster.endpoint_set:
            self._endpoint_sets[cluster.name] = cluster.endpoint_set
            if cluster.endpoint_set not in known.sent:
                self.refers_to((ENDPOINTS, cluster.endpoint_set), generation)

    def cluster_left(self, name: str) -> None:
        """Stops awaiting the endpoints of a cluster that the node no longer holds."""
        endpoint_set = self._endpoint_sets.pop(name, "")
        if endpoint_set not in self._endpoint_sets.values():
            self.gives_up((ENDPOINTS, endpoint_set))

    def gives_up(self, name: Name) -> None:
        """Stops awaiting a resource."""
        self._awaited.pop(name, None)
        self._refused.pop(name, None)

    def awaited(self, type_url: str) -> list[str]:
        """Names of one type that the node has yet to subscribe to, or to acknowledge."""
        return [name for of_type, name in self._awaited if of_type == type_url]

    def update(self, built: int | None = None) -> None:
        """Updates what the subscriber has applied; ``built`` is the generation up to which everything is sent now."""
        if built is not None:
            self._built = built
        unacknowledged = (generation for generation, _ in self._unacknowledged.values())
        outstanding = [*unacknowledged, *self._awaited.values(), *self._refused.values()]
        self._subscriber.has_applied(min(outstanding) - 1 if outstanding else self._built)
        if self._subscriber.applied > self._subscriber.refused and not self._subscriber.left_behind:
            self._subscriber.error = ""
