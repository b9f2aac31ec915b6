"""Headers beside a request or an answer. The routing key's own is ``lab.routing.keys.HEADER``."""

from __future__ import annotations

from collections.abc import Iterable

from lab.routing.keys import COPY_HEADER, HEADER, SESSION_HEADER, SHADOW_HEADER, TENANT_HEADER

REQUEST_ID = "x-request-id"
# Beside a request to a model: the units that it has passed, each by the unit itself (RFC 9110, 7.6.3).
VIA = "via"
# Beside a request from an Envoy that all callers share, and by it alone: the caller whose certificate it has seen.
PROVED_CALLER = "x-proved-caller"
# Beside a request to a gateway that does not parse the body: a serialised ``serving.v1.Envelope``.
ENVELOPE = "x-envelope-bin"
# Beside an answer from a gateway, which decides for the caller: revision of the decision, timeout of the use case in
# milliseconds, number of attempts, and the answer's source. Without the latter two there was one attempt, and the
# version chosen first answered.
REVISION = "x-revision"
TIMEOUT = "x-timeout-ms"
ATTEMPTS = "x-attempts"
SOURCE = "x-source"

MODEL, FALLBACK = "model", "fallback"
# Beside an error: every version of the chain has failed, and the caller answers by itself.
DEFAULT = "default"

# Beside a request to an Envoy, by its decision: time limit of one attempt, and the wait before a hedge, milliseconds.
# The cluster's own configuration limits the number of attempts.
PER_TRY, HEDGE = "x-per-try-ms", "x-hedge-ms"
# Beside a request: how many retries and hedges its caller allows for it, besides what the route table allows. An Envoy
# and a gRPC library know only 0, which is none at all.
RETRIES_LEFT = "x-retries-left"
# Beside an Envoy's answer, also an error: how often it has sent the request.
ENVOY_ATTEMPTS = "x-envoy-attempt-count"


# Beside a request whose replica is picked before it is sent, each as ``ip:port``: that replica, the one that served,
# those to pick from, and the one that prefills. The first three are of kubernetes-sigs/gateway-api-inference-extension,
# docs/proposals/004-endpoint-picker-protocol; the last is llm-d's.
DESTINATION = "x-gateway-destination-endpoint"
SERVED = "x-gateway-destination-endpoint-served"
SUBSET = "x-gateway-destination-endpoint-subset"
PREFILLER = "x-prefiller-host-port"
FORGEABLE = (DESTINATION, SERVED, SUBSET, PREFILLER)
"""Names of headers of picks, which a proxy that goes by none removes."""

TRACE = frozenset({"traceparent", "tracestate"})
OF_GRPC = frozenset({"user-agent", "grpc-previous-rpc-attempts"})
"""Names of headers that gRPC's own client adds, as far as a server sees them."""
OF_CLIENT = TRACE | {
    *(HEADER, SHADOW_HEADER, COPY_HEADER, TENANT_HEADER, SESSION_HEADER, REQUEST_ID, PER_TRY, HEDGE),
    *(RETRIES_LEFT, ENVELOPE),
}
"""Names of headers that the lab's client adds on some topology."""

PARSED, PASSED_ON = "parsed", "passed on"
"""How a gateway takes a request's body, as it says in :data:`VIA`."""

_DIGITS = 4


def retries_left(received: Iterable[tuple[str, str | bytes]] | None) -> int | None:
    """The value of :data:`RETRIES_LEFT` among a request's headers; None without one.

    Raises:
        ValueError: it is not a whole number of at most four digits.
    """
    for name, value in received or ():
        if name == RETRIES_LEFT:
            if not (isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= _DIGITS):
                raise ValueError(f"{RETRIES_LEFT}: {value[:20]!r} is not a whole number of at most {_DIGITS} digits")
            return int(value)
    return None


def via(role: str, unit: str, form: str = "") -> str:
    """What a unit adds to :data:`VIA`: it received the request by HTTP/2, and took its body in this form."""
    return f"2 {role} ({'; '.join(filter(None, (unit, form)))})"
