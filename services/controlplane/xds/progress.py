"""How far one stream's node has come: what it was sent, what it has acknowledged, and what it has yet to ask for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.controlplane.xds.resources import ENDPOINTS

if TYPE_CHECKING:
    from services.controlplane.nodes.subscribers import Subscriber
    from services.controlplane.xds.resources import Resource

Name = tuple[str, str]
"""Type and name of a resource."""


@dataclass(slots=True)
class Subscription:
    """What one stream wants of one type.

    Attributes:
        sent: name → version that the node has, empty before the first.
        changed: names of what may have another version than that by now.
    """

    sent: dict[str, str] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)


class Progress:
    """Keeps a subscriber's state up to date.

    What a node was sent is in force only once all that it refers to is: a cluster needs its endpoints, which the node
    asks for after it has acknowledged the cluster. Until they are acknowledged, too, they are *awaited*.

    Args:
        subscriber: whose state.
        built: generation from which on everything was sent.
    """

    def __init__(self, subscriber: Subscriber, built: int) -> None:
        self._subscriber = subscriber
        self._built = built
        self._nonce = 0
        self._unacknowledged: dict[int, tuple[int, tuple[Name, ...]]] = {}  # nonce → generation, what it carried
        self._awaited: dict[Name, int] = {}  # → generation of what refers to it
        self._endpoint_sets: dict[str, str] = {}  # cluster → endpoint set that it was last sent with

    def carries(self, generation: int, names: tuple[Name, ...]) -> str:
        """A response goes out with these resources; returns its nonce."""
        self._nonce += 1
        self._unacknowledged[self._nonce] = (generation, names)
        return str(self._nonce)

    def answered(self, nonce: str, refusal: str | None, *, of_all: str = "") -> int:
        """The node has acknowledged a response, or refused it.

        Args:
            nonce: of the response.
            refusal: why it was refused; None if it was not.
            of_all: type of which the answer speaks for earlier responses, too.

        Returns:
            Generation of the response, 0 if that is answered for already.
        """
        number = int(nonce) if nonce.isdecimal() else 0
        generation = self._unacknowledged.get(number, (0, ()))[0]
        for each in [number, *(each for each in self._unacknowledged if each < number and self._is_of(each, of_all))]:
            for name in self._unacknowledged.pop(each, (0, ()))[1]:
                self._awaited.pop(name, None)
        if refusal is not None:
            self._subscriber.refused = generation
            self._subscriber.error = refusal
        self.update()
        return generation

    def _is_of(self, number: int, type_url: str) -> bool:
        return any(of_type == type_url for of_type, _ in self._unacknowledged[number][1])

    def refers_to(self, name: Name, generation: int) -> None:
        """Something was sent that is of use only with a resource that the node does not have yet."""
        self._awaited.setdefault(name, generation)

    def cluster_sent(self, cluster: Resource, known: Subscription, generation: int) -> None:
        """A cluster was sent; its endpoints are awaited unless the node follows them already."""
        before = self._endpoint_sets.pop(cluster.name, "")
        if before != cluster.endpoint_set:
            self.gives_up((ENDPOINTS, before))
        if cluster.endpoint_set:
            self._endpoint_sets[cluster.name] = cluster.endpoint_set
            if cluster.endpoint_set not in known.sent:
                self.refers_to((ENDPOINTS, cluster.endpoint_set), generation)

    def cluster_left(self, name: str) -> None:
        """The node has no use for a cluster any longer, nor for its endpoints."""
        endpoint_set = self._endpoint_sets.pop(name, "")
        if endpoint_set not in self._endpoint_sets.values():
            self.gives_up((ENDPOINTS, endpoint_set))

    def gives_up(self, name: Name) -> None:
        """The node has no use for a resource any longer."""
        self._awaited.pop(name, None)

    def awaited(self, type_url: str) -> list[str]:
        """What the node has yet to ask for, or to acknowledge, of one type."""
        return [name for of_type, name in self._awaited if of_type == type_url]

    def update(self, built: int | None = None) -> None:
        """Says which generations the node has applied; ``built`` if everything up to that one was sent now."""
        if built is not None:
            self._built = built
        outstanding = [*(generation for generation, _ in self._unacknowledged.values()), *self._awaited.values()]
        self._subscriber.has_applied(min(outstanding) - 1 if outstanding else self._built)
        if self._subscriber.applied > self._subscriber.refused:
            self._subscriber.error = ""
