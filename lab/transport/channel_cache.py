"""Caches blocking channels: a TLS handshake costs five times what a short call does."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import grpc

from lab.transport.channels import open_blocking_channel

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# A cached connection may be dead without notice, if its server restarted or was cut off.
_CACHED_TIMEOUT_S = 1.0
_DEAD = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class ChannelCache:
    """One channel an address, kept while calls over it succeed. Threads may share it."""

    def __init__(self) -> None:
        self._open: dict[str, grpc.Channel] = {}

    def clear(self) -> None:
        """Drops all channels; each closes as soon as no call uses it."""
        self._open.clear()

    def call(self, address: str, rpc: Callable[[grpc.Channel, float], T], *, timeout_s: float) -> T:
        """Calls over the cached channel, and once more over a new one if the cached one proves dead.

        Args:
            address: ``host:port``.
            rpc: makes the call, given a channel and a timeout in seconds; may be run twice.
            timeout_s: for the call over a new channel, seconds.

        Raises:
            grpc.RpcError: the call failed.
        """
        cached = self._open.get(address)
        if cached is not None:
            try:
                return rpc(cached, min(_CACHED_TIMEOUT_S, timeout_s))
            except grpc.RpcError as error:
                # Not closed here: another thread may be using it. It is closed with its last reference.
                self._open.pop(address, None)
                if error.code() not in _DEAD:
                    raise
        channel = open_blocking_channel(address)
        answer = rpc(channel, timeout_s)
        self._open[address] = channel
        return answer
