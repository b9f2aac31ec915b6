"""Headers that travel beside the payload. The routing key's own is ``lab.routing.keys.HEADER``."""

REQUEST_ID = "x-request-id"
# A serialised ``serving.v1.Envelope`` in place of the body's own, for a gateway that is not to read the body.
ENVELOPE = "x-envelope-bin"
# Beside an answer from a gateway, which decided for the caller: under which revision, after how many attempts, and who
# it is from. Left out, the attempts are 1 and the answer is from the version that was chosen first.
REVISION = "x-revision"
ATTEMPTS = "x-attempts"
SOURCE = "x-source"

MODEL, FALLBACK = "model", "fallback"
# Beside an error: the chain of fallbacks is at its end, and the caller's own default answer comes next.
DEFAULT = "default"

# Beside a request to an Envoy, by its decision: how long one attempt may take before the next is made, or how long the
# first is waited for alone before a second is made beside it; milliseconds. How often to try at most, the cluster says.
PER_TRY, HEDGE = "x-per-try-ms", "x-hedge-ms"
# Beside an Envoy's answer, good or bad: how often it has sent the request.
ENVOY_ATTEMPTS = "x-envoy-attempt-count"
