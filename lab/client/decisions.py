"""Decisions as a client uses them: read once, reused by every call that they hold for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.routing.keys import HEADER, SHADOW_HEADER
from models.proto.control.v1 import resolver_pb2

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration

    from models.proto.serving.v1 import serving_pb2

_MAX_INTERNED = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A model version that is to answer, and what a request to it carries.

    Attributes:
        routing_key: empty where somebody further on decides.
        model_config: for the request's body; None where somebody further on fills it in.
        metadata: headers that carry the routing key.
        more: headers for an Envoy on the way, beside a request with one answer: what they ask for would break streams.
    """

    routing_key: str = ""
    model_config: serving_pb2.ModelConfig | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    more: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Shadow:
    """Who gets copies of a share of the requests.

    Attributes:
        routing_key: the version that gets them.
        percent: of the requests, see :func:`lab.routing.buckets.is_shadowed`.
        metadata: header that asks for a copy, if one does.
    """

    routing_key: str
    percent: int
    metadata: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision(Target):
    """Where a request goes and what travels with it.

    Attributes:
        revision: of the route table, 0 if there was none.
        timeout_s: deadline of the inference call, seconds; whoever is tried, all is to happen within it.
        alternatives: who is tried when this version fails, in order.
        falls_back: whether the use case has a chain of fallbacks, at whose end the caller's default answer is.
        shadow: who gets copies, None if nobody.
        reads: fields of the request context that the use case's rules read.
        ttl_s: for how long it may be reused, seconds.
        max_stale_s: for how long it may be reused while the resolver cannot be reached, seconds.
        repeats: whether an Envoy on the way may send a request more than once.
    """

    revision: int = 0
    timeout_s: float
    alternatives: tuple[Target, ...] = ()
    falls_back: bool = False
    shadow: Shadow | None = None
    reads: tuple[str, ...] = ()
    ttl_s: float = 0.0
    max_stale_s: float = 0.0
    repeats: bool = False


class DecisionReader:
    """Reads decisions off the wire. Equal bytes are read once: many users share few decisions.

    Args:
        through_envoy: whether headers tell an Envoy on the way what to do besides: send a copy to a shadow, try again
            after a while. Else it is for whoever sends the request.
    """

    def __init__(self, *, through_envoy: bool = True) -> None:
        self._through_envoy = through_envoy
        self._known: dict[bytes, Decision] = {}

    def read(self, raw: bytes) -> Decision:
        """The decision that ``raw``, a serialised ``control.v1.Decision``, stands for."""
        decision = self._known.get(raw)
        if decision is None:
            if len(self._known) >= _MAX_INTERNED:
                self._known.clear()
            decision = self._known[raw] = _parse(raw, through_envoy=self._through_envoy)
        return decision


def _parse(raw: bytes, *, through_envoy: bool) -> Decision:
    message = resolver_pb2.Decision.FromString(raw)
    more = tuple((each.name, each.value) for each in message.headers) if through_envoy else ()
    return Decision(
        routing_key=message.routing_key,
        revision=message.revision,
        timeout_s=_seconds(message.timeout),
        model_config=message.model_config,
        metadata=((HEADER, message.routing_key),),
        more=more,
        reads=tuple(message.lease.reads),
        ttl_s=_seconds(message.lease.ttl),
        max_stale_s=_seconds(message.lease.max_stale),
        alternatives=tuple(
            Target(
                routing_key=each.routing_key,
                model_config=each.model_config,
                metadata=((HEADER, each.routing_key),),
                more=more,
            )
            for each in message.alternatives
        ),
        falls_back=message.falls_back,
        shadow=_shadow(message.shadow, marked=through_envoy) if message.HasField("shadow") else None,
        repeats=message.repeats and through_envoy,
    )


def _shadow(message: resolver_pb2.Shadow, *, marked: bool) -> Shadow:
    return Shadow(message.routing_key, message.percent, ((SHADOW_HEADER, message.routing_key),) if marked else ())


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
