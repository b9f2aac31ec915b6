"""Methods of gRPC whose messages are passed as bytes."""

from __future__ import annotations

import grpc.aio


def unary(channel: grpc.aio.Channel, path: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    """A method of one request and one response."""
    return channel.unary_unary(path)


def server_stream(channel: grpc.aio.Channel, path: str) -> grpc.aio.UnaryStreamMultiCallable[bytes, bytes]:
    """A method that answers with a stream."""
    return channel.unary_stream(path)
