"""Caller → model at a hard-coded address: the latency floor, and what breaks when a model moves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc

from lab.client.base import Client
from lab.client.decisions import Decision
from lab.client.rpc_channel import Wire
from lab.errors import CallError, SpecError
from lab.routing.keys import HEADER, routing_key
from models.proto.serving.v1 import serving_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.client.attempts import Passage
    from lab.client.endpoints import DirectTarget, Endpoints

# Nobody hands down a use case's own timeout here.
_TIMEOUT_S = 10.0


class DirectClient(Client):
    """Sends to the addresses that it was given when it was made."""

    topology = "direct"

    def __init__(self, caller: str, endpoints: Endpoints, **options: Any) -> None:
        super().__init__(caller, endpoints, **options)
        if not endpoints.direct:
            raise SpecError("no addresses of models are given")
        self._wires: dict[tuple[str, ...], Wire] = {}
        self._routes = {use_case: self._route(target) for use_case, target in endpoints.direct.items()}

    def _route(self, target: DirectTarget) -> tuple[Wire, Decision]:
        wire = self._wires.get(target.addresses)
        if wire is None:
            peer = f"model/{target.cluster}" if target.cluster else "model"
            wire = self._wires[target.addresses] = Wire(target.addresses, self._security, peer=peer)
        key = routing_key(target.model, target.version)
        decision = Decision(
            routing_key=key,
            timeout_s=_TIMEOUT_S,
            model_config=serving_pb2.ModelConfig(model=target.model, version=target.version),
            metadata=((HEADER, key),),
        )
        return wire, decision

    async def _choose(self, passage: Passage, context: Mapping[str, str]) -> tuple[Wire, Decision]:
        del context
        route = self._routes.get(passage.use_case)
        if route is None:
            raise CallError(grpc.StatusCode.NOT_FOUND, f"use case {passage.use_case!r} has no hard-coded address")
        return route

    async def ready(self, timeout_s: float = 10.0) -> None:
        """Returns once a replica of each model is connected."""
        await asyncio.gather(*(wire.ready(timeout_s) for wire in self._wires.values()))

    async def close(self) -> None:
        """Closes all connections."""
        await asyncio.gather(*(wire.close() for wire in self._wires.values()))
