"""Decisions as a client uses them: read once, reused by every call that they hold for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.routing.keys import HEADER
from models.proto.control.v1 import resolver_pb2

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration

    from models.proto.serving.v1 import serving_pb2

_MAX_INTERNED = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Where a request goes and what travels with it.

    Attributes:
        routing_key: empty where somebody further on decides.
        revision: of the route table, 0 if there was none.
        timeout_s: deadline of the inference call, seconds.
        model_config: for the request's body; None where somebody further on fills it in.
        metadata: headers that carry the routing key.
        reads: fields of the request context that the use case's rules read.
        ttl_s: for how long it may be reused, seconds.
        max_stale_s: for how long it may be reused while the resolver cannot be reached, seconds.
    """

    routing_key: str = ""
    revision: int = 0
    timeout_s: float
    model_config: serving_pb2.ModelConfig | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    reads: tuple[str, ...] = ()
    ttl_s: float = 0.0
    max_stale_s: float = 0.0


class DecisionReader:
    """Reads decisions off the wire. Equal bytes are read once: many users share few decisions."""

    def __init__(self) -> None:
        self._known: dict[bytes, Decision] = {}

    def read(self, raw: bytes) -> Decision:
        """The decision that ``raw``, a serialised ``control.v1.Decision``, stands for."""
        decision = self._known.get(raw)
        if decision is None:
            if len(self._known) >= _MAX_INTERNED:
                self._known.clear()
            decision = self._known[raw] = _parse(raw)
        return decision


def _parse(raw: bytes) -> Decision:
    message = resolver_pb2.Decision.FromString(raw)
    return Decision(
        routing_key=message.routing_key,
        revision=message.revision,
        timeout_s=_seconds(message.timeout),
        model_config=message.model_config,
        metadata=((HEADER, message.routing_key),),
        reads=tuple(message.lease.reads),
        ttl_s=_seconds(message.lease.ttl),
        max_stale_s=_seconds(message.lease.max_stale),
    )


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
