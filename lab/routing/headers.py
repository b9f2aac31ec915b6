"""Headers beside a request or an answer. The routing key's own is ``lab.routing.keys.HEADER``."""

REQUEST_ID = "x-request-id"
# Beside a request to a model: the roles of the units that it has passed, each by the unit itself (RFC 9110, 7.6.3).
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


def via(role: str) -> str:
    """What a unit of this role adds to :data:`VIA`: it received the request by HTTP/2."""
    return f"2 {role}"
