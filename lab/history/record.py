"""The record of one request of a run: evidence for checkers, and data for reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from operator import attrgetter
from typing import get_type_hints

UNSENT = "UNSENT"
"""Status of a request that was never sent; every other status is the name of a gRPC status."""

NONE_SEEN = "none"
"""Value of ``seen_origin`` if the model found no traffic origin in the request."""


@dataclass(frozen=True, slots=True)
class Record:
    """One request, as the driver saw it. Times are Unix nanoseconds; an empty string means absent.

    Attributes:
        sequence: index in the planned arrivals, from 0.
        request_id: sent with the request, and logged by all units on its path.
        topology: e.g. ``mesh``.
        caller: service that sent it.
        use_case: of the request.
        user_id: request context, as are the next fields.
        payload_bytes: size of the serialised request without the envelope, which the client fills.
        intended_ns: planned time of sending; latency counts from here.
        sent_ns: actual time of sending, 0 if never sent; the difference is the schedule delay.
        done_ns: when the answer or the error arrived; 0 if never sent.
        status: gRPC status name, ``OK`` for an answer; ``UNSENT`` if the driver stopped before.
        message: the error's message.
        source: ``model``, ``fallback`` for a fallback model, ``default`` for the caller's own default answer, empty
            without an answer.
        routing_key: of the decision, if the driver learnt it.
        revision: of the decision.
        model: that answered, by its own report, as are the next fields.
        served_revision: revision by which the replica had loaded the version.
        attempts: number of attempts at models, by client, gateway and Envoy: several after a tear, a fallback or a
            retry.
        item_id: first item of the answer (a title, a payment).
        score: its score, which proves the version that computed it.
        override: request context: the model version to which the request was pinned, e.g. ``cw-ranker@v3``.
        shadow: routing key of the shadow that the request was marked for, if the driver learnt it.
        seen_origin: traffic origin that the model found in the request, :data:`NONE_SEEN` if it found none; empty if
            the model does not report it.
        seen_tenant: tenant that the model found, empty if none; meaningful only with a ``seen_origin``.
        received: the model's receipt of the request, hexadecimal, see :mod:`models.stub.receipts`; empty if it gave
            none.
        streamed: 1 if the request was sent as a stream, else 0.
        items: ids of all items of a stream in the order of their arrival, with a blank between.
        items_digest: digest over all items of an answer, see :func:`lab.client.outcome.answered`, or of a stream, see
            :class:`lab.client.outcome.StreamedItems`; empty if nothing came.
        first_item_ns: time from sending to the first item of a stream; 0 if none arrived.
        usage: what a model that generates tokens claims: tokens of the prompt, how many of them were cached, and
            milliseconds in its queue, with blanks between; empty without such a claim.
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
    received: str = ""
    streamed: int = 0
    items: str = ""
    items_digest: str = ""
    first_item_ns: int = 0
    usage: str = ""


FIELDS: tuple[str, ...] = tuple(field.name for field in fields(Record))
"""Names of the record's fields, in their order on disk."""

FIELD_TYPES: tuple[type, ...] = tuple(get_type_hints(Record)[name] for name in FIELDS)
"""Their types: ``str``, ``int`` or ``float``."""

DEFAULTS: Mapping[str, str | int | float] = {
    field.name: field.default for field in fields(Record) if field.default is not MISSING
}
"""Values of fields that older histories lack."""

values_of: Callable[[Record], tuple[str | int | float, ...]] = attrgetter(*FIELDS)
"""Returns the values of a record in field order; ``dataclasses.astuple`` would copy each of them deeply."""


def record_of(values: tuple[str | int | float, ...]) -> Record:
    """Returns the record of values from :data:`values_of`; the caller checks their types."""
    return Record(*values)  # type: ignore[arg-type]
