"""Channels whose RPCs are observed, by counts and by spans."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial, partialmethod
from typing import Any, Self

import grpc
import grpc.aio

from lab.clock import lab_time_ns


class ObservedChannel(grpc.aio.Channel):
    """A channel around another one.

    Args:
        channel: makes the calls.
        observe: returns what is called in place of an RPC, from the RPC, its kind such as ``unary_stream``, and the
            path of its method.
    """

    def __init__(self, channel: grpc.aio.Channel, observe: Callable[[Any, str, str], Any]) -> None:
        self._channel, self._observe = channel, observe

    def _rpc(self, kind: str, method: str, *arguments: Any, **options: Any) -> Any:
        return self._observe(getattr(self._channel, kind)(method, *arguments, **options), kind, method)

    unary_unary = partialmethod(_rpc, "unary_unary")
    unary_stream = partialmethod(_rpc, "unary_stream")
    stream_unary = partialmethod(_rpc, "stream_unary")
    stream_stream = partialmethod(_rpc, "stream_stream")

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002, D102 (gRPC's)
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:  # noqa: D102 (see above)
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:  # noqa: D102 (see above)
        await self._channel.channel_ready()

    async def close(self, grace: float | None = None) -> None:  # noqa: D102 (see above)
        await self._channel.close(grace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class CallEnds:
    """Learns how calls ended, without anybody waiting for them."""

    def __init__(self) -> None:
        self._asking: set[asyncio.Task[None]] = set()

    def after(self, call: Any, then: Callable[[str, int], None]) -> None:
        """Calls ``then`` with the name of the call's status, and the time of its end in Unix nanoseconds."""
        call.add_done_callback(partial(self._ended, then))

    def _ended(self, then: Callable[[str, int], None], call: Any) -> None:
        task = asyncio.get_running_loop().create_task(_tell(call, then, lab_time_ns()))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)


async def _tell(call: Any, then: Callable[[str, int], None], at_ns: int) -> None:
    then((await call.code()).name, at_ns)
