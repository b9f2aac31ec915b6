"""How a gateway reads a method's messages: parsed as a whole, or passed on as bytes beside an envelope in a header."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.message import DecodeError

from lab.routing import headers
from models.apis import API_BY_REQUEST, Method
from models.proto.serving.v1 import serving_pb2

if TYPE_CHECKING:
    import grpc.aio

    _Context = grpc.aio.ServicerContext[Any, Any]


class Form(NamedTuple):
    """How a method's messages are read: parsed as a whole, or passed on as bytes.

    Attributes:
        api: name of the method's API.
        parsed: whether messages are parsed.
        deserialise: parses a received request; None leaves its bytes.
        serialise: serialises an answer; None leaves its bytes.
        open: makes, from what was received, a message with the envelope, and the bytes that precede it on the way to
            the model; raises ValueError if it cannot.
    """

    api: str
    parsed: bool
    deserialise: Callable[[bytes], Any] | None
    serialise: Callable[[Any], bytes] | None
    open: Callable[[Any, _Context], tuple[Any, bytes]]


def parsed(method: Method) -> Form:
    """Requests are parsed, and serialised again."""
    return Form(
        api=API_BY_REQUEST[method.request_class].name,
        parsed=True,
        deserialise=method.request_class.FromString,
        serialise=method.response_class.SerializeToString,
        open=lambda received, _: (received, b""),
    )


def opaque(method: Method) -> Form:
    """Requests stay bytes; the envelope from the header is appended to them.

    In protobuf, concatenated messages are one message, in which later fields win. A field of the body's own envelope
    that the header leaves empty would reach the model unchecked, so that envelope is taken out.
    """

    def read_header(received: bytes, context: _Context) -> tuple[Any, bytes]:
        request = method.request_class()
        for name, value in context.invocation_metadata() or ():
            if name == headers.ENVELOPE:
                try:
                    request.envelope.ParseFromString(value)
                except DecodeError:
                    raise ValueError(f"{headers.ENVELOPE}: not a serving.v1.Envelope") from None
        return request, _without_envelope(received)

    return Form(
        api=API_BY_REQUEST[method.request_class].name,
        parsed=False,
        deserialise=None,
        serialise=None,
        open=read_header,
    )


def _without_envelope(body: bytes) -> bytes:
    """The body without any envelope that a model would find in it; the rest is not parsed."""
    try:
        message = serving_pb2.EnvelopeOnly.FromString(body)
    except DecodeError:
        return body  # no model can parse it either
    if not message.HasField("envelope"):
        return body
    message.ClearField("envelope")
    return message.SerializeToString()
