"""The picker's answers to ext_proc, message by message."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from envoy.service.ext_proc.v3 import external_processor_pb2 as messages

from lab.pickers import PICKERS
from lab.plugins.endpoint_picker.bodies import FULL_DUPLEX, MOST_HELD
from lab.plugins.endpoint_picker.contract import DESTINATION, NAMESPACE, SERVED, SUBSET, SUBSET_NAMESPACE
from lab.plugins.endpoint_picker.policy import order_of
from lab.plugins.endpoint_picker.service import PickerService

KEY, A, B, C = "rows.v1", "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"


def picker(name: str = "round-robin", *addresses: str, standby: tuple[str, ...] = ()) -> PickerService:
    made = PickerService(lambda: order_of(PICKERS[name]))
    made.set_endpoints({KEY: (addresses or (A, B), standby)})
    return made


class Stream:
    """One request at the picker; its messages are sent one by one."""

    def __init__(self, service: PickerService) -> None:
        self._sent: list[messages.ProcessingRequest] = []
        context: Any = None
        self._answers: Any = service.Process(self._messages(), context)

    async def _messages(self) -> AsyncGenerator[messages.ProcessingRequest, None]:
        while self._sent:
            yield self._sent.pop()

    async def say(self, message: messages.ProcessingRequest) -> messages.ProcessingResponse:
        self._sent.append(message)
        answer: messages.ProcessingResponse = await anext(self._answers)
        return answer

    async def headers(self, key: str = KEY, subset: list[str] | None = None) -> messages.ProcessingResponse:
        message = messages.ProcessingRequest()
        message.request_headers.headers.headers.add(key="x-routing-key", raw_value=key.encode())
        if subset is not None:
            message.metadata_context.filter_metadata[SUBSET_NAMESPACE].update({SUBSET: subset})
        return await self.say(message)

    async def served(self, endpoint: str) -> None:
        message = messages.ProcessingRequest(response_headers=messages.HttpHeaders())
        message.metadata_context.filter_metadata[NAMESPACE].update({SERVED: endpoint})
        await self.say(message)

    async def end(self) -> None:
        await self._answers.aclose()


def picked(answer: messages.ProcessingResponse) -> list[str]:
    """The endpoints of an answer, which has them twice."""
    [option] = answer.request_headers.response.header_mutation.set_headers
    assert option.header.key == DESTINATION
    text = str(option.header.raw_value, "utf-8")
    assert dict(answer.dynamic_metadata[NAMESPACE]) == {DESTINATION: text}
    return text.split(",")


async def test_each_pick_names_all_endpoints_in_turn_in_header_and_metadata() -> None:
    service = picker("round-robin", A, B, C)
    picks = [picked(await Stream(service).headers()) for _ in range(4)]
    assert picks == [[B, C, A], [C, A, B], [A, B, C], [B, C, A]]
    assert service.outcomes == {"picked": 4}


async def test_standby_replicas_are_the_last_of_the_list() -> None:
    assert picked(await Stream(picker("round-robin", B, standby=(A,))).headers()) == [B, A]


async def test_a_request_counts_at_its_endpoint_from_the_pick_to_its_end() -> None:
    service = picker("least-request")
    streams = [Stream(service) for _ in range(6)]
    first = [picked(await each.headers())[0] for each in streams]
    assert {endpoint: first.count(endpoint) for endpoint in (A, B)} == {A: 3, B: 3}
    for stream, endpoint in zip(streams, first, strict=True):
        if endpoint == A:
            await stream.end()
    assert [picked(await Stream(service).headers())[0] for _ in range(1)] == [A]


async def test_where_a_request_was_served_is_counted_and_moves_it_there() -> None:
    service = picker()
    told = {B: "as picked", A: "next in the list", C: "elsewhere", "": "not said"}
    for endpoint, outcome in told.items():
        service = picker()
        stream = Stream(service)
        assert picked(await stream.headers()) == [B, A]
        await stream.served(endpoint)
        in_flight = {each.address: each.in_flight for each in service._keys[KEY].endpoints.values()}
        assert in_flight == {A: int(endpoint == A), B: int(endpoint in (B, ""))}
        await stream.end()
        assert service.results == {outcome: 1}
        assert not any(each.in_flight for each in service._keys[KEY].endpoints.values())


@pytest.mark.parametrize(
    ("subset", "expected"),
    [([B, C], {B, C}), ([C], {C}), ([C, "10.0.0.9:1"], {C})],
)
async def test_a_pick_is_inside_the_subset(subset: list[str], expected: set[str]) -> None:
    assert set(picked(await Stream(picker("round-robin", A, B, C)).headers(subset=subset))) == expected


@pytest.mark.parametrize(
    ("endpoints", "key", "subset", "outcome"),
    [
        ((A,), KEY, ["10.0.0.9:1"], "nothing in the subset"),
        ((A,), KEY, [], "nothing in the subset"),
        ((A,), "unheard-of.v1", [A], "nothing in the subset"),
        ((), KEY, None, "no endpoint"),
    ],
)
async def test_without_an_endpoint_the_answer_is_503(
    endpoints: tuple[str, ...], key: str, subset: list[str] | None, outcome: str
) -> None:
    service = picker("round-robin", A)
    service.set_endpoints({KEY: (endpoints, ())})
    answer = (await Stream(service).headers(key, subset)).immediate_response
    assert (answer.status.code, answer.grpc_status.status) == (503, 14)
    assert service.outcomes == {outcome: 1}


async def test_a_key_that_the_picker_has_not_learnt_passes_without_a_pick() -> None:
    answer = await Stream(picker()).headers("new.v1")
    assert answer.WhichOneof("response") == "request_headers"
    assert not answer.request_headers.response.header_mutation.set_headers
    assert not answer.dynamic_metadata.fields


async def test_bodies_that_reach_it_are_counted() -> None:
    service, stream = picker(), None
    stream = Stream(service)
    await stream.headers()
    parts: list[dict[str, Any]] = [
        {"request_body": messages.HttpBody(body=b"12345")},
        {"response_body": messages.HttpBody(body=b"123")},
        {"response_trailers": messages.HttpTrailers()},
    ]
    answers = [(await stream.say(messages.ProcessingRequest(**each))).WhichOneof("response") for each in parts]
    assert answers == ["request_body", "response_body", "response_trailers"]
    assert service.body_bytes == 8


WHOLE, BEGUN = b"\0\0\0\0\x05hello", b"\0\0\0\0\x05he"


@pytest.mark.parametrize(
    "bodies",
    [
        [(WHOLE, False)],
        [(b"\0\0", False), (b"\0\0\x05hel", False), (b"lo", True)],
        [(BEGUN, True)],
        [(b"\0\xff\xff\xff\xff" + MOST_HELD * b"x", False)],
    ],
    ids=["one part", "parts", "an end before it is whole", "a long one"],
)
async def test_in_full_duplex_it_picks_once_the_first_message_has_come_and_passes_all_on(
    bodies: list[tuple[bytes, bool]],
) -> None:
    headers = messages.ProcessingRequest()
    headers.protocol_config.request_body_mode = FULL_DUPLEX
    headers.request_headers.headers.headers.add(key="x-routing-key", raw_value=KEY.encode())
    parts = [
        messages.ProcessingRequest(request_body=messages.HttpBody(body=body, end_of_stream=ends))
        for body, ends in bodies
    ]
    service, sent = picker(), list[int]()

    async def proxy() -> AsyncGenerator[messages.ProcessingRequest, None]:
        for number, each in enumerate((headers, *parts)):
            sent.append(number)
            yield each

    context: Any = None
    answers = service.Process(proxy(), context)
    assert picked(await anext(answers)) == [B, A]
    assert sent == [0, *range(1, len(parts) + 1)]
    passed_on = [answer.request_body.response.body_mutation.streamed_response async for answer in answers]
    assert [(each.body, each.end_of_stream) for each in passed_on] == bodies
    assert service.body_bytes == sum(len(body) for body, _ in bodies)


async def test_a_request_that_ends_with_trailers_before_its_first_message_is_picked_for() -> None:
    headers = messages.ProcessingRequest(request_headers=messages.HttpHeaders())
    headers.protocol_config.request_body_mode = FULL_DUPLEX
    trailers = messages.ProcessingRequest(request_trailers=messages.HttpTrailers())

    async def proxy() -> AsyncGenerator[messages.ProcessingRequest, None]:
        yield headers
        yield trailers

    context: Any = None
    answers = [answer.WhichOneof("response") async for answer in picker().Process(proxy(), context)]
    assert answers == ["request_headers", "request_trailers"]


async def test_a_replica_that_stays_keeps_its_requests_in_flight() -> None:
    service = picker("least-request")
    streams = [Stream(service) for _ in range(2)]
    [await each.headers() for each in streams]
    service.set_endpoints({KEY: ((A, B, C), ())})
    assert picked(await Stream(service).headers())[0] == C
