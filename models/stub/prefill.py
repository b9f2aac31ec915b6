"""A replica's side of prefill and decode apart: it has another replica compute a prompt's KV cache."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from lab.plain_text import printable
from lab.routing.headers import PREFILLER
from lab.transport import open_channel
from models.proto.control.v1 import prefill_pb2_grpc
from models.stub.admission import Refused
from models.tokens.engine import Prefilled

if TYPE_CHECKING:
    from models.proto.generation.v1 import generation_pb2

    Context = grpc.aio.ServicerContext[Any, Any]

_MOST, _SHOWN, _KEPT = 64, 60, 200
_ADDRESS = re.compile(r"[A-Za-z0-9.-]{1,253}:[0-9]{1,5}")


def prefiller_in(context: Context) -> str:
    """Returns the replica that a request's headers name to prefill it; empty if they name none.

    Raises:
        Refused: what they name is not an address.
    """
    named = next((str(value) for name, value in context.invocation_metadata() or () if name == PREFILLER), "")
    if named and not _ADDRESS.fullmatch(named):
        reason = f"{PREFILLER}: {printable(named, _SHOWN)} is not an address; send ip:port"
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, reason)
    return named


class Prefillers:
    """Other replicas of a cluster, each over its own channel: the latest :data:`_MOST` that were asked."""

    def __init__(self, cluster: str) -> None:
        self._peer = f"model/{cluster}" if cluster else "model"
        self._channels: OrderedDict[str, grpc.aio.Channel] = OrderedDict()

    async def ask(self, address: str, request: generation_pb2.GenerateRequest, timeout_s: float | None) -> Prefilled:
        """Has a replica prefill a request; says where, and why not if that failed."""
        channel = self._channels.pop(address, None)
        if channel is None:
            channel = open_channel(address, peer=self._peer, carries_requests=True, watches_health=False)
        self._channels[address] = channel
        if len(self._channels) > _MOST:
            await self._channels.popitem(last=False)[1].close()
        try:
            await prefill_pb2_grpc.PrefillStub(channel).Run(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            return Prefilled(address, f"{error.code().name}: {printable(error.details() or '', _KEPT)}")
        return Prefilled(address)
