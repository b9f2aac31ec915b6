"""The value that describes a picker, and all pickers by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lab.registry import Registry

GATEWAY, ENVOY, GRPC, GRPC_XDS = "gateway", "envoy", "grpc", "grpc-xds"
"""Places that pick a replica, beside the proxies of renderers, which have their renderer's name."""


DEFAULT_PICKER = "round-robin"
"""What every place does by itself, also a proxy that knows nothing of pickers."""


class Pickable(Protocol):
    """A replica, as a picker of the lab's own gateway sees it.

    Attributes:
        in_flight: attempts in flight to it.
    """

    in_flight: int


Pick = Callable[[Sequence[Any]], Any]
"""Picks one of several replicas, each a :class:`Pickable`; keeps what it needs between calls."""


@dataclass(frozen=True, slots=True)
class Cannot:
    """A place cannot pick in this manner.

    Attributes:
        reason: why, in a few words for an error message.
    """

    reason: str


def even_shares(replicas: int) -> tuple[float, ...]:
    """The same share of the requests for each replica."""
    return (1 / replicas,) * replicas


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picker:
    """A manner to pick the replica that gets a request, and what each place configures for it.

    Attributes:
        name: e.g. ``round-robin``.
        line: what it does, in a line.
        places: what to configure, or :class:`Cannot`, by place; a place that is missing cannot.
            :data:`GATEWAY`: makes the :data:`Pick` of one routing key.
            :data:`ENVOY` and :data:`GRPC_XDS`: fields of a cluster in xDS, as JSON; Envoy's and that of gRPC clients.
            :data:`GRPC`: an entry of ``loadBalancingConfig`` in a channel's service config.
            Name of a renderer, e.g. ``nginx``: a string in the proxy's configuration.
        shares: the replicas' expected shares of a version's requests, given how many there are; what the checker
            *balance* asks for.
    """

    name: str
    line: str
    places: Mapping[str, Any]
    shares: Callable[[int], Sequence[float]] = even_shares

    def at(self, place: str) -> Any:
        """What to configure at a place, or :class:`Cannot`."""
        return self.places.get(place, Cannot(f"{self.name} does not say what it configures at {place}"))


PICKERS = Registry(Picker, package="lab.pickers", group="routing_lab.pickers", noun="picker")
"""All pickers: the lab's, those of other distributions, and those of plugin files."""
