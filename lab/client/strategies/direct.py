"""Sends to hard-coded addresses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc

from lab.client.encoding import whole
from lab.client.rpc_channel import RpcChannel
from lab.errors import CallError
from lab.routing.attempts import Decision, Target
from lab.routing.keys import HEADER, routing_key
from models.proto.serving.v1 import serving_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.client.encoding import Encode
    from lab.client.endpoints import DirectTarget
    from lab.routing.attempts import RequestAttempts
    from lab.transport import Security

# No route table is read that would have the use case's own timeout.
_TIMEOUT_S = 10.0


class Direct:
    """Sends each use case to the replicas that were given for it, which gRPC balances over.

    Args:
        models: by use case, the model version and its addresses.
        security: credentials; this process's own by default.
        encode: form of the requests.
    """

    def __init__(
        self, models: Mapping[str, DirectTarget], security: Security | None = None, *, encode: Encode = whole
    ) -> None:
        self.encode = encode
        self._security = security
        self._channels: dict[tuple[str, ...], RpcChannel] = {}
        self._decisions = {use_case: self._decision(model) for use_case, model in models.items()}

    def _decision(self, model: DirectTarget) -> tuple[RpcChannel, Decision]:
        channel = self._channels.get(model.addresses)
        if channel is None:
            peer = f"model/{model.cluster}" if model.cluster else "model"
            channel = self._channels[model.addresses] = RpcChannel(model.addresses, self._security, peer=peer)
        key = routing_key(model.model, model.version)
        target = Target(
            routing_key=key,
            model_config=serving_pb2.ModelConfig(model=model.model, version=model.version),
            headers=((HEADER, key),),
        )
        return channel, Decision(targets=(target,), timeout_s=_TIMEOUT_S)

    async def decide(self, attempts: RequestAttempts, context: Mapping[str, str]) -> tuple[RpcChannel, Decision]:
        """The use case's own channel and model version."""
        del context
        found = self._decisions.get(attempts.use_case)
        if found is None:
            reason = f"use case {attempts.use_case!r} has no hard-coded address"
            raise CallError(grpc.StatusCode.NOT_FOUND, reason)
        return found

    async def ready(self, timeout_s: float) -> None:
        """Returns once a replica of each model is connected."""
        await asyncio.gather(*(channel.ready(timeout_s) for channel in self._channels.values()))

    async def close(self) -> None:
        """Closes all channels."""
        await asyncio.gather(*(channel.close() for channel in self._channels.values()))
