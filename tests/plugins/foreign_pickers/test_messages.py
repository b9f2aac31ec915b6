"""A request and its answer survive OpenAI's form, and what lacks evidence is refused."""

from __future__ import annotations

import copy
import socket
from typing import Any

import pytest

from lab.plugins.foreign_pickers.messages import (
    EVIDENCE,
    FormError,
    answer_evidence,
    answer_of,
    asked_of,
    request_document,
)
from lab.plugins.foreign_pickers.routers import ROUTERS, free_ports
from models.proto.generation.v1 import generation_pb2

HEADERS = (("x-routing-key", "chat-model.v1"), ("x-request-id", "r1"))


def message() -> generation_pb2.GenerateRequest:
    asked = generation_pb2.GenerateRequest(prompt=[0, 17, 2**32 - 1], max_tokens=2, session="s1", lora="l1")
    asked.envelope.use_case, asked.envelope.request_id, asked.envelope.context.tenant = "Chat", "r1", "kids"
    return asked


def answer() -> generation_pb2.GenerateResponse:
    given = generation_pb2.GenerateResponse(usage=generation_pb2.Usage(prompt_tokens=3, cached_tokens=1))
    given.answered_by.replica = "a"
    for number in range(2):
        given.tokens.add(id=f"g{number}", score=number / 4)
    return given


def test_a_door_reads_the_request_that_was_sent() -> None:
    document = request_document(message(), HEADERS, 12.5, streams=True)

    assert (document["model"], document["prompt"], document["max_tokens"]) == ("Chat", "00000000 00000011 ffffffff", 2)
    assert asked_of(document) == (message(), HEADERS, 12.5, True)


@pytest.mark.parametrize("wrong", [{}, {EVIDENCE: None}, {EVIDENCE: {"request": "?", "headers": [], "until": 1}}])
def test_a_body_without_the_evidence_is_refused(wrong: dict[str, Any]) -> None:
    document = request_document(message(), HEADERS, 12.5, streams=False)
    del document[EVIDENCE]
    with pytest.raises(FormError, match=r"^lab: is missing, or not of the lab's form"):
        asked_of(document | wrong)


def test_a_prompt_that_is_not_of_tokens_is_refused() -> None:
    document = request_document(message(), HEADERS, 12.5, streams=False) | {"prompt": "hello"}
    with pytest.raises(FormError, match="not of hexadecimal digits"):
        asked_of(document)


def test_tokens_are_the_words_of_the_text_and_the_rest_is_evidence() -> None:
    document = {"choices": [{"text": "g0 g1"}], EVIDENCE: answer_evidence(answer())}
    assert answer_of(generation_pb2.GenerateResponse, document) == answer()

    other = copy.deepcopy(document)
    other["choices"][0]["text"] = "g0 h1"  # type: ignore[index]
    assert [each.id for each in answer_of(generation_pb2.GenerateResponse, other).tokens] == ["g0", "h1"]
    document["choices"][0]["text"] = "g0"  # type: ignore[index]
    with pytest.raises(FormError, match="part of its text"):
        answer_of(generation_pb2.GenerateResponse, document)


def test_a_neutral_router_repeats_and_refuses_nothing_by_itself() -> None:
    for router in ROUTERS.values():
        shipped = router.argv("cache_aware", "127.0.0.1", (1, 2), ["http://127.0.0.1:3"], neutral=False)
        neutral = router.argv("cache_aware", "127.0.0.1", (1, 2), ["http://127.0.0.1:3"], neutral=True)
        assert neutral[: len(shipped)] == shipped
        assert {"--disable-retries", "--disable-circuit-breaker"} <= {*neutral[len(shipped) :]}


def test_a_server_that_begins_before_a_router_listens_does_not_take_its_ports() -> None:
    """It took them in one run of many: the router ended after another unit's health check had counted as its own."""
    host, ports = free_ports()
    for port in ports:
        with socket.create_server(("127.0.0.1", port)), socket.create_server((host, port)):
            pass
