"""Bodies at a picker, which waits for the first message, and passes all on as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator

from envoy.extensions.filters.http.ext_proc.v3 import processing_mode_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as messages

FULL_DUPLEX = processing_mode_pb2.ProcessingMode.FULL_DUPLEX_STREAMED


MOST_HELD = 1 << 20
"""Bytes of a request that wait until its first message is whole; a longer one is picked for before that."""
_PREFIX_BYTES = 5
"""Of a gRPC message: whether it is compressed, and its length."""


async def once_readable(
    incoming: AsyncIterator[messages.ProcessingRequest],
) -> AsyncIterator[tuple[messages.ProcessingRequest, bytes | None]]:
    """Yields what the proxy sends of a request: in full duplex, headers only once the first gRPC message has come.

    So pickers do that go by the prompt; the proxy waits for their answer to the headers, and sends on. With the headers
    comes what was read of the body, or None if the body does not pass through the picker.
    """
    held: list[messages.ProcessingRequest] = []
    read = b""
    async for message in incoming:
        if held or _waits(message):
            held.append(message)
            read += message.request_body.body
            last = message.WhichOneof("request") == "request_trailers" or message.request_body.end_of_stream
            if not (last or _is_whole(read) or len(read) >= MOST_HELD):
                continue
            for each in held:
                yield each, read
            held, read = [], b""
        else:
            yield message, None


def _waits(message: messages.ProcessingRequest) -> bool:
    """Whether a message has headers, and a body will follow."""
    return in_full_duplex(message) and message.HasField("request_headers") and not message.request_headers.end_of_stream


def _is_whole(read: bytes) -> bool:
    """Whether a gRPC request's first message has come."""
    return len(read) >= _PREFIX_BYTES and len(read) >= _PREFIX_BYTES + int.from_bytes(read[1:_PREFIX_BYTES])


def message_in(read: bytes) -> bytes | None:
    """A gRPC request's first message; None if it has not come, or is compressed."""
    if not _is_whole(read) or read[0]:
        return None
    return read[_PREFIX_BYTES : _PREFIX_BYTES + int.from_bytes(read[1:_PREFIX_BYTES])]


def in_full_duplex(message: messages.ProcessingRequest) -> bool:
    """Whether the proxy says, in a stream's first message, that it takes the request's body from the picker."""
    return bool(message.protocol_config.request_body_mode == FULL_DUPLEX)


def passed_on(kind: str, body: messages.HttpBody, *, duplex: bool) -> messages.ProcessingResponse:
    """The answer to a part of a body, which passes it on unchanged; ``kind`` is its field in the proxy's message."""
    if not duplex:
        return messages.ProcessingResponse(**{kind: messages.BodyResponse()})
    part = messages.StreamedBodyResponse(body=body.body, end_of_stream=body.end_of_stream)
    common = messages.CommonResponse(body_mutation=messages.BodyMutation(streamed_response=part))
    return messages.ProcessingResponse(**{kind: messages.BodyResponse(response=common)})
