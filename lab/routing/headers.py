"""Headers beside a request or an answer. The routing key's own is ``lab.routing.keys.HEADER``."""

from lab.routing.keys import COPY_HEADER, HEADER, SHADOW_HEADER, TENANT_HEADER

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
# Beside an Envoy's answer, also an error: how often it has sent the request.
ENVOY_ATTEMPTS = "x-envoy-attempt-count"


TRACE = frozenset({"traceparent", "tracestate"})
OF_GRPC = frozenset({"user-agent", "grpc-previous-rpc-attempts"})
"""Names of headers that gRPC's own client adds, as far as a server sees them."""
OF_CLIENT = frozenset({HEADER, SHADOW_HEADER, COPY_HEADER, TENANT_HEADER, REQUEST_ID, PER_TRY, HEDGE, ENVELOPE}) | TRACE
"""Names of headers that the lab's client adds on some topology."""

PARSED, PASSED_ON = "parsed", "passed on"
"""How a gateway takes a request's body, as it says in :data:`VIA`."""


def via(role: str, unit: str, form: str = "") -> str:
    """What a unit adds to :data:`VIA`: it received the request by HTTP/2, and took its body in this form."""
    return f"2 {role} ({'; '.join(filter(None, (unit, form)))})"
