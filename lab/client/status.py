"""What went wrong, in the words that every topology uses: the same status, and a message that names the subject."""

from __future__ import annotations

import grpc
import grpc.aio

# What a gRPC library that routes by itself says of a cluster without endpoints.
_NO_ENDPOINTS = "contains no localities"
# And of a request that would be one too many for a cluster's breaker.
_FULL = "circuit breaker drop"

# What another version, or another attempt, may do better at. Not a refusal, which would be the same again.
FALLS_BACK = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)
# At the end of the chain, or of the time for it.
ENDS_IN_DEFAULT = FALLS_BACK | {grpc.StatusCode.DEADLINE_EXCEEDED}


def explained(
    error: grpc.aio.AioRpcError, *, use_case: str, routing_key: str, timeout_s: float
) -> tuple[grpc.StatusCode, str]:
    """Status and message of a failed call, with use case and routing key in it unless it names one of them itself."""
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.CANCELLED:
        # Not by this side, or there would be no error to explain: a server that stops drops what waits in its queue.
        code, details = grpc.StatusCode.UNAVAILABLE, f"dropped by a server that stops ({details})"
    if code is grpc.StatusCode.UNAVAILABLE and _FULL in details:
        code = grpc.StatusCode.RESOURCE_EXHAUSTED
    if use_case in details:
        return code, details
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        # Whoever's clock ran out first, Envoy's or this side's, has words of its own for it.
        details = f"no answer within {timeout_s * 1000:.0f} ms"
    elif _NO_ENDPOINTS in details:
        details = "no healthy replica"
    elif routing_key and routing_key in details:
        return code, details
    subject = f"{use_case} ({routing_key})" if routing_key else use_case
    return code, f"{subject}: {details or code.name}"
