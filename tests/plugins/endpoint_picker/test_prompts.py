"""What an endpoint picker reads of a request's headers and of its first gRPC message."""

from __future__ import annotations

import gzip

import pytest

from lab.pickers import Asked
from lab.plugins.endpoint_picker.bodies import MOST_HELD
from lab.plugins.endpoint_picker.prompts import HEADERS_ONLY, NO_PROMPT, READ, TOO_LONG, UNREADABLE, asked_of
from lab.routing.slo import Slo
from models.proto.generation.v1 import generation_pb2
from models.tokens.blocks import chain

PATH, STREAM = "/generate.v1.Generation/Generate", "/generate.v1.Generation/GenerateStream"
PROMPT = range(40)
HEADERS = {":path": PATH, "x-request-id": "r-1", "x-tenant": "b", "x-session-id": "s-9"}
OBJECTIVES = {"Chat": Slo(25.0, 2.0)}


def message(tokens: int = len(PROMPT)) -> bytes:
    request = generation_pb2.GenerateRequest(prompt=range(tokens), max_tokens=4, session="s-1", lora="l-1")
    request.envelope.use_case, request.envelope.context.tenant = "Chat", "a"
    return request.SerializeToString()


def framed(content: bytes, compressed: int = 0) -> bytes:
    return bytes([compressed]) + len(content).to_bytes(4, "big") + content


@pytest.mark.parametrize("path", [PATH, STREAM])
def test_prompt_conversation_adapter_tenant_and_slo_are_those_of_the_body(path: str) -> None:
    asked, became = asked_of({**HEADERS, ":path": path}, framed(message()) + b"more", OBJECTIVES)

    assert asked == Asked("r-1", chain(PROMPT, tenant="a", lora="l-1"), 40, "s-1", "l-1", "a", 25.0, 2.0)
    assert became == READ


@pytest.mark.parametrize(
    ("path", "body", "became"),
    [
        (PATH, None, HEADERS_ONLY),
        ("/ranking.v1.Ranking/Rank", framed(b""), NO_PROMPT),
        ("/nothing.v1.Known/Here", framed(message()), NO_PROMPT),
        (PATH, framed(message(MOST_HELD // 4))[:MOST_HELD], TOO_LONG),
        (PATH, framed(message(MOST_HELD // 4)), TOO_LONG),
        (PATH, framed(gzip.compress(message()), compressed=1), UNREADABLE),
        (PATH, framed(message())[:-1], UNREADABLE),
        (PATH, b"", UNREADABLE),
        (PATH, framed(b"\xff\xff\xff"), UNREADABLE),
    ],
    ids=[
        "headers",
        "no prompt",
        "unknown",
        "too long",
        "too long, in one part",
        "compressed",
        "cut off",
        "empty",
        "not a message",
    ],
)
def test_without_a_prompt_a_request_is_known_by_its_headers(path: str, body: bytes | None, became: str) -> None:
    assert asked_of({**HEADERS, ":path": path}, body, OBJECTIVES) == (Asked("r-1", (), 0, "s-9", "", "b"), became)
