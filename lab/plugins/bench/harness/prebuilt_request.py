"""A serialised request, for senders of plain bytes: h2load, and closed loops."""

from __future__ import annotations

import struct

from lab.errors import UnitError
from lab.plugins.bench.harness.variant import API, CALLER, MODEL, USE_CASE, VERSION
from lab.routing.keys import HEADER
from models.apis import APIS

METHOD = APIS[API].unary
ROUTING_KEY = (HEADER, f"{MODEL}.{VERSION}")


def request(payload_bytes: int) -> bytes:
    """Returns a serialised request that every topology answers.

    It names its model for topologies without a decision on the way; a gateway overwrites the name.
    """
    message = APIS[API].build_request(payload_bytes)
    message.envelope.use_case = USE_CASE
    message.envelope.context.caller = CALLER
    message.envelope.context.user_id = "u1"
    message.envelope.model_config.model = MODEL
    message.envelope.model_config.version = VERSION
    return bytes(message.SerializeToString())


def frame(message: bytes) -> bytes:
    """Returns the message as an HTTP/2 gRPC frame: compression flag, length, bytes."""
    return struct.pack(">BI", 0, len(message)) + message


def check_answer(address: str, answer: bytes) -> None:
    """Checks that the right model version gave an answer.

    Raises:
        UnitError: another did.
    """
    by = METHOD.response_class.FromString(answer).answered_by
    if (by.model, by.version) != (MODEL, VERSION):
        raise UnitError(f"{address} was answered by {by.model}@{by.version}, not by {MODEL}@{VERSION}")
