"""The value that describes a picker, and all pickers by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from lab.registry import Registry

GATEWAY, ENVOY, GRPC, GRPC_XDS = "gateway", "envoy", "grpc", "grpc-xds"
"""Places that pick a replica, beside the proxies of renderers, which have their renderer's name."""


DEFAULT_PICKER = "round-robin"
"""What every place does by itself, also a proxy that knows nothing of pickers."""


Source = Literal["scraped", "counted", "reserved"]
"""Where a signal of load comes from: ``scraped`` from the replicas, ``counted`` at dispatch, or ``reserved`` at the
pick until the attempt ends, for a limited time."""


Pick = Callable[[Sequence[Any]], Any]
"""Picks one of several replicas, each with its attempts ``in_flight``; keeps what it needs between calls."""


class Asked(NamedTuple):
    """A request, as a picker sees it that chooses for each request by itself.

    Attributes:
        request_id: of the request.
        hashes: of the prompt's full blocks, see :mod:`models.tokens.blocks`; none if it has no prompt.
        tokens: of its prompt.
        session: conversation that it continues; empty for none.
        lora: adapter of the model; empty for none.
        tenant: of the request's context.
        slo_first_ms: objective of its use case for the time to the first token; 0 for none.
        slo_next_ms: for the time to each further token, likewise.
        priority: of its use case, by the route table.
        flow: whose turn it is among requests of one priority: of its tenant, if the route table names it, else of its
            caller.
    """

    request_id: str
    hashes: Sequence[bytes]
    tokens: int
    session: str
    lora: str
    tenant: str
    slo_first_ms: float = 0.0
    slo_next_ms: float = 0.0
    priority: int = 0
    flow: str = ""


class Speed(NamedTuple):
    """What a replica takes its time by, see :class:`models.tokens.settings.TokenSettings`; times with one request.

    Attributes:
        overhead_ms: of a request.
        prefill_ms: of an uncached token of its prompt.
        itl_ms: between two generated tokens.
        load_factor: how much longer all of it takes with ``slots`` requests.
        slots: requests that it serves at once; 0 if that is not known, nor the times.
    """

    overhead_ms: float = 0.0
    prefill_ms: float = 0.0
    itl_ms: float = 0.0
    load_factor: float = 1.0
    slots: int = 0


class Seen(NamedTuple):
    """A replica, as a picker sees it that chooses for each request by itself.

    Attributes:
        address: ``ip:port``.
        in_flight: attempts in flight to it, as the one that picks counts them; always now.
        waiting: its queue, as the signal says: the one that it reports; the attempts in flight, where the signal is
            counted at dispatch; or the slots that are reserved there.
        running: requests that it serves, as it reports; 0 where the signal is another one.
        kv_used: share of its KV cache in use, likewise.
        age_ms: of what the signal says; -1 if there was none yet, and it is 0.
        loras: adapters that it has loaded or is loading, as it reports.
        waiting_loras: those that requests wait for there, likewise.
        max_loras: number of adapters that it holds at once, likewise; 0 for any number, or if it does not say.
        tokens: of prompts that are reserved there; 0 where the signal is another one.
        speed: as it reports.
        prefills: whether it only prefills, for other replicas, as it reports.
    """

    address: str
    in_flight: int
    waiting: int
    running: int
    kv_used: float
    age_ms: float
    loras: Sequence[str] = ()
    waiting_loras: Sequence[str] = ()
    max_loras: int = 0
    tokens: int = 0
    speed: Speed = Speed()
    prefills: bool = False

    @property
    def load(self) -> int:
        """Requests that it has, by the signal."""
        return self.waiting + self.running


class Chooser(Protocol):
    """Chooses for the requests of one routing key; keeps what it needs between calls."""

    def pick(self, asked: Asked, seen: Sequence[Seen]) -> int:
        """The place in ``seen``, which has one or more replicas, of the one that gets the request."""

    def ended(self, asked: Asked, address: str) -> None:
        """Called when the attempt that was picked for has ended, however it did."""


class FollowsKvEvents(Chooser, Protocol):
    """A chooser that goes by what the replicas' KV caches hold.

    Attributes:
        on_kv_events: called with each batch: the replica's address, the batch's number, 0 for the first one of a
            process, and its payload, see :mod:`models.tokens.kv_events`.
    """

    on_kv_events: Callable[[str, int, bytes], None]


class Queues(Chooser, Protocol):
    """A chooser whose requests wait while no replica has room; their place knows each by a number above 0."""

    def has_room(self, seen: Sequence[Seen]) -> bool:
        """Whether one of these replicas, of which there is one or more, has room for a request."""

    def limit_s(self, asked: Asked) -> float:
        """Time after which a request that still waits is shed, seconds."""

    def join(self, number: int, asked: Asked) -> int:
        """Lets a request wait; returns the number of the one that is shed for it, maybe its own, or 0 for none."""

    def next(self) -> int:
        """The number of the request whose turn it is, of one or more; it waits no longer."""

    def leave(self, number: int) -> None:
        """Takes out a request that waits no longer, and was not the next one."""


class PicksPrefillers(Chooser, Protocol):
    """A chooser for clusters with replicas that only prefill: first where a request decodes, then where it prefills."""

    def prefiller(self, asked: Asked, seen: Sequence[Seen], picked: int) -> str:
        """The address of the replica that prefills a request which decodes at ``picked``; empty for that one itself."""


@dataclass(frozen=True, slots=True)
class Chooses:
    """What a place configures for a picker that goes by more than the replicas themselves.

    Attributes:
        make: makes the chooser of one routing key.
        follows_kv_events: whether it is a :class:`FollowsKvEvents`.
        needs_reports: whether it goes by what only replicas report, which the signal must then be scraped for.
        queues: whether it is one that :class:`Queues`.
        picks_prefillers: whether it is a :class:`PicksPrefillers`.
    """

    make: Callable[[], Chooser]
    follows_kv_events: bool = False
    needs_reports: bool = False
    queues: bool = False
    picks_prefillers: bool = False


@dataclass(frozen=True, slots=True)
class Cannot:
    """A place cannot pick in this manner.

    Attributes:
        reason: why, in a few words for an error message.
    """

    reason: str


NO_WAITING = "it lets no request wait before it picks"
"""Reason of a place that cannot pick as :class:`Queues` do."""


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
            :data:`GATEWAY`: makes the :data:`Pick` of one routing key, or :class:`Chooses`.
            :data:`ENVOY` and :data:`GRPC_XDS`: fields of a cluster in xDS, as JSON; Envoy's and that of gRPC clients.
            :data:`GRPC`: an entry of ``loadBalancingConfig`` in a channel's service config.
            Name of a renderer, e.g. ``nginx``: a string in the proxy's configuration.
        shares: the replicas' expected shares of a version's requests, given how many there are; what the checker
            *balance* asks for.
        reads_prompt: whether it goes by prompts: only places that read the payload can pick so.
        skewed: whether replicas get different shares on purpose, by what is asked: *balance* does not judge those.
        reports_load: whether models report their load with each response, in ORCA's trailer.
    """

    name: str
    line: str
    places: Mapping[str, Any]
    shares: Callable[[int], Sequence[float]] = even_shares
    reads_prompt: bool = False
    skewed: bool = False
    reports_load: bool = False

    def at(self, place: str) -> Any:
        """What to configure at a place, or :class:`Cannot`."""
        return self.places.get(place, Cannot(f"{self.name} does not say what it configures at {place}"))


THIRD_PARTY = ("nginx", "haproxy", "traefik", "caddy", "vllm-router", "smg")
"""Places that are programs of others, with configurations of their own."""


def at_gateway_only(make: Callable[[], Chooser], why: str, **needs: bool) -> dict[str, Any]:
    """The places of a picker whose choosers only the lab's own gateway can ask; ``why`` completes *it cannot, as*.

    ``needs`` are the further fields of :class:`Chooses`.
    """
    return {GATEWAY: Chooses(make, **needs), **dict.fromkeys((ENVOY, GRPC, GRPC_XDS, *THIRD_PARTY), Cannot(why))}


PICKERS = Registry(Picker, package="lab.pickers", group="routing_lab.pickers", noun="picker")
"""All pickers: the lab's, those of other distributions, and those of plugin files."""
