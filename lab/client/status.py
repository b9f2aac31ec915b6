"""Statuses and messages of failed calls, the same in every topology: proxies and libraries have their own."""

from __future__ import annotations

import grpc
import grpc.aio

# From a gRPC library that routes by itself, about a cluster without endpoints.
_NO_ENDPOINTS = "contains no localities"
# Likewise, about a request that a cluster's circuit breaker rejects.
_FULL = "circuit breaker drop"


def explained(
    error: grpc.aio.AioRpcError, *, use_case: str, routing_key: str, timeout_s: float
) -> tuple[grpc.StatusCode, str]:
    """Status and message of a failed call; the message is made to name use case and routing key if it names neither."""
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.CANCELLED:
        # Not cancelled by this side, which would raise no such error: a server that stops drops its queue.
        code, details = grpc.StatusCode.UNAVAILABLE, f"dropped by a server that stops ({details})"
    if code is grpc.StatusCode.UNAVAILABLE and _FULL in details:
        code = grpc.StatusCode.RESOURCE_EXHAUSTED
    if use_case in details:
        return code, details
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        # Envoy and gRPC have different messages for it.
        details = f"no answer within {timeout_s * 1000:.0f} ms"
    elif _NO_ENDPOINTS in details:
        details = "no healthy replica"
    elif routing_key and routing_key in details:
        return code, details
    subject = f"{use_case} ({routing_key})" if routing_key else use_case
    return code, f"{subject}: {details or code.name}"
