"""Decisions as a client uses them: read once, reused by every request that they hold for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.routing.attempts import Decision, Target
from lab.routing.keys import HEADER
from lab.routing.rules import Shadow
from models.proto.control.v1 import resolver_pb2

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration

_MAX_INTERNED = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedDecision(Decision):
    """A resolver's decision, and its lease.

    Attributes:
        reads: fields of the request context that the use case's rules read.
        ttl_s: for how long it may be reused, seconds.
        max_stale_s: for how long it may be reused while the resolver cannot be reached, seconds.
    """

    reads: tuple[str, ...] = ()
    ttl_s: float = 0.0
    max_stale_s: float = 0.0


class DecisionReader:
    """Reads serialised decisions. Equal bytes are read once: many users share few decisions.

    Args:
        through_envoy: whether requests pass an Envoy, which copies them to a shadow and retries them, as headers ask;
            else the client makes the copies, and nothing on the path retries.
    """

    def __init__(self, *, through_envoy: bool = True) -> None:
        self._through_envoy = through_envoy
        self._known: dict[bytes, ResolvedDecision] = {}

    def read(self, raw: bytes) -> ResolvedDecision:
        """Parses ``raw``, a serialised ``control.v1.Decision``."""
        decision = self._known.get(raw)
        if decision is None:
            if len(self._known) >= _MAX_INTERNED:
                self._known.clear()
            decision = self._known[raw] = _parse(raw, through_envoy=self._through_envoy)
        return decision


def _parse(raw: bytes, *, through_envoy: bool) -> ResolvedDecision:
    message = resolver_pb2.Decision.FromString(raw)
    for_envoy = tuple((each.name, each.value) for each in message.headers) if through_envoy else ()

    def target(version: resolver_pb2.Decision | resolver_pb2.Alternative) -> Target:
        return Target(
            routing_key=version.routing_key,
            model_config=version.model_config,
            headers=((HEADER, version.routing_key),),
            unary_headers=for_envoy,
        )

    shadow = message.shadow
    return ResolvedDecision(
        targets=(target(message), *map(target, message.alternatives)),
        timeout_s=_seconds(message.timeout),
        revision=message.revision,
        falls_back=message.falls_back,
        shadow=Shadow(shadow.routing_key, shadow.percent) if message.HasField("shadow") else None,
        renewable=True,
        mirrored_by_proxy=through_envoy,
        repeated_by_proxy=message.repeats and through_envoy,
        reads=tuple(message.lease.reads),
        ttl_s=_seconds(message.lease.ttl),
        max_stale_s=_seconds(message.lease.max_stale),
    )


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
