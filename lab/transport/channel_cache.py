"""Channels to those who are asked again and again: a TLS handshake is five times the work of a question."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import grpc

from lab.transport.channels import open_blocking_channel

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# Who has come back, or was cut off for a while, may not be at the end of a connection that is open.
_SOON_S = 1.0
_NOBODY_THERE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class ChannelCache:
    """One channel an address, kept for as long as who is there answers. Threads may share it."""

    def __init__(self) -> None:
        self._open: dict[str, grpc.Channel] = {}

    def call(self, address: str, rpc: Callable[[grpc.Channel, float], T], *, timeout_s: float) -> T:
        """Asks over the channel that there is, and anew over a new one where no answer comes over that soon.

        Args:
            address: ``host:port``.
            rpc: makes a call, which may be made twice, on a channel and with so many seconds for it.
            timeout_s: seconds for the call over a new channel.

        Raises:
            grpc.RpcError: as the call does over a new channel.
        """
        kept = self._open.get(address)
        if kept is not None:
            try:
                return rpc(kept, min(_SOON_S, timeout_s))
            except grpc.RpcError as error:
                # Another thread may be asking over it: it closes with the last who has it.
                self._open.pop(address, None)
                if error.code() not in _NOBODY_THERE:
                    raise
        channel = open_blocking_channel(address)
        answer = rpc(channel, timeout_s)
        self._open[address] = channel
        return answer
