"""The record of every request of a run: the evidence that checkers judge and reports are drawn from."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from operator import attrgetter
from typing import TYPE_CHECKING, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

UNSENT = "UNSENT"
"""Status of a request whose turn never came; every other status is the name of a gRPC status."""

NONE_SEEN = "none"
"""What a record says of the origin that a model saw in a request which had none there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One request, as the driver saw it. Times are Unix nanoseconds; an empty string means absent.

    Attributes:
        sequence: place in the planned arrivals, from 0.
        request_id: the id that travels with the request.
        topology: e.g. ``mesh``.
        caller: service in whose name it was sent.
        use_case: what was asked for.
        user_id: request context, as are the next fields.
        payload_bytes: size of the serialised request without its envelope, which is the client's to fill.
        intended_ns: when the arrival process wanted it sent; latency counts from here.
        sent_ns: when the driver really began; the difference is the schedule delay. 0 if it never did.
        done_ns: when the answer or the error arrived. 0 if it was never sent.
        status: gRPC status name, ``OK`` for an answer; ``UNSENT`` if the driver stopped before its turn.
        message: the error's message.
        source: ``model``, ``fallback`` for a model further down the chain, ``default`` for the caller's own default
            answer, empty without an answer.
        routing_key: of the decision, where the driver got to know it.
        revision: of the decision.
        model: who answered, by its own word, as are the next fields.
        served_revision: revision of the assignment that the replica served under.
        attempts: how often it was sent to a model: more than once after a tear, if another version had to be tried, or
            if gateway or Envoy have sent it again.
        item_id: first item of the answer (a title, a payment).
        score: its score, which proves the version that computed it.
        override: request context: the model version to which the request was pinned, e.g. ``cw-ranker@v3``.
        shadow: routing key of the shadow that the request was marked for, where the driver got to know it.
        seen_origin: traffic origin that the model found in the request, :data:`NONE_SEEN` if it found none; empty if
            it does not say.
        seen_tenant: tenant that it found, empty if none; of use only where it says which origin it found.
    """

    sequence: int
    request_id: str
    topology: str
    caller: str
    use_case: str
    user_id: str
    device: str
    country: str
    segment: str
    surface: str
    tenant: str
    traffic_origin: str
    payload_bytes: int
    intended_ns: int
    sent_ns: int
    done_ns: int
    status: str
    message: str
    source: str
    routing_key: str
    revision: int
    model: str
    version: str
    cluster: str
    replica: str
    served_revision: int
    attempts: int
    item_id: str
    score: float
    override: str = ""
    shadow: str = ""
    seen_origin: str = ""
    seen_tenant: str = ""


FIELDS: tuple[str, ...] = tuple(field.name for field in fields(Record))
"""Names of the record's fields, in the order in which both forms on disk hold them."""

FIELD_TYPES: tuple[type, ...] = tuple(get_type_hints(Record)[name] for name in FIELDS)
"""Their types: ``str``, ``int`` or ``float``."""

DEFAULTS: Mapping[str, str | int | float] = {
    field.name: field.default for field in fields(Record) if field.default is not MISSING
}
"""Values of the last fields, which histories written before there were such fields lack."""

values_of: Callable[[Record], tuple[str | int | float, ...]] = attrgetter(*FIELDS)
"""The values of a record in field order; ``dataclasses.astuple`` would copy each of them deeply."""


def record_of(values: tuple[str | int | float, ...]) -> Record:
    """The inverse of :data:`values_of`; the types of the values are the caller's to check."""
    return Record(**dict(zip(FIELDS, values, strict=True)))  # type: ignore[arg-type]
