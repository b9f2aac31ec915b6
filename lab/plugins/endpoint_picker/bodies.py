"""Bodies at a picker, which passes them on as they are."""

from __future__ import annotations

from envoy.extensions.filters.http.ext_proc.v3 import processing_mode_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as messages

FULL_DUPLEX = processing_mode_pb2.ProcessingMode.FULL_DUPLEX_STREAMED


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
