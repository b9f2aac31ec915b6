"""A blocking client of a caller service: has it make one call. For commands, notebooks and tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import grpc

from lab.errors import CallError
from lab.transport import ChannelCache
from models.context import write_context
from models.proto.caller.v1 import caller_pb2, caller_pb2_grpc

_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """Answer to one call, and how it came about.

    Attributes:
        revision: of the routing decision; 0 where the address is hard-coded.
        latency_ms: measured by the caller, including the decision.
        result: the answer in one line.
        source: ``model``; ``fallback`` if the version chosen first failed and another one answered; ``default`` for the
            caller's own default answer.
        attempts: how often the request was sent to a model.
        shadow: routing key of the shadow that was sent a copy; empty if none was.
    """

    use_case: str
    topology: str
    routing_key: str
    model: str
    version: str
    cluster: str
    replica: str
    revision: int
    latency_ms: float
    result: str
    source: str
    request_id: str
    attempts: int
    shadow: str


def call(
    address: str,
    use_case: str,
    topology: str,
    context: Mapping[str, str],
    *,
    payload_bytes: int = 400,
    channels: ChannelCache | None = None,
) -> CallOutcome:
    """Has a caller service make one call; returns its outcome.

    Args:
        address: ``host:port`` of the caller service.
        use_case: name of the use case.
        topology: name of the topology.
        context: fields of the request context.
        payload_bytes: size of the request's feature vectors.
        channels: cache of channels, for many calls; a call over a dead cached channel is made twice. By default each
            call opens a channel.

    Raises:
        CallError: with the status of the inference call.
    """
    request = caller_pb2.CallRequest(use_case=use_case, topology=topology, payload_bytes=payload_bytes)
    try:
        write_context(request.context, context)
    except (TypeError, ValueError) as error:
        raise CallError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None

    def rpc(channel: grpc.Channel, timeout_s: float) -> caller_pb2.CallResult:
        return caller_pb2_grpc.CallerStub(channel).Call(request, timeout=timeout_s)

    try:
        result = (channels or ChannelCache()).call(address, rpc, timeout_s=_TIMEOUT_S)
    except grpc.RpcError as error:
        raise CallError(error.code(), error.details() or "no reason given") from None
    answered_by = {name: getattr(result.answered_by, name) for name in ("model", "version", "cluster", "replica")}
    others = (each.name for each in fields(CallOutcome) if each.name not in answered_by)
    return CallOutcome(**answered_by, **{name: getattr(result, name) for name in others})
