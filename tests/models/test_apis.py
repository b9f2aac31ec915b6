from __future__ import annotations

import pytest

from lab.plugins.bench.harness import payloads
from models.apis import API_BY_REQUEST, APIS, METHODS, Api
from models.proto.ranking.v1 import ranking_pb2

every_api = pytest.mark.parametrize("api", APIS.values(), ids=list(APIS))


@every_api
@pytest.mark.parametrize("payload_bytes", [400, 1_000, 27_000, 500_000, 4_000_000])
def test_a_request_is_about_as_big_as_it_was_asked_to_be(api: Api, payload_bytes: int) -> None:
    request = api.build_request(payload_bytes)

    assert abs(request.ByteSize() - payload_bytes) <= 0.02 * payload_bytes


@every_api
def test_a_size_of_zero_is_a_request_all_the_same(api: Api) -> None:
    assert api.build_request(0).ByteSize() > 0


@every_api
def test_requests_begin_with_the_envelope_and_answers_with_their_source(api: Api) -> None:
    for method in api.methods:
        assert method.request_class.DESCRIPTOR.fields_by_number[1].message_type.full_name == "serving.v1.Envelope"
        assert method.response_class.DESCRIPTOR.fields_by_number[1].message_type.full_name == "serving.v1.AnsweredBy"


@every_api
def test_an_api_is_what_its_proto_says(api: Api) -> None:
    service = api.unary.request_class.DESCRIPTOR.file.services_by_name[api.service.rpartition(".")[2]]

    assert api.service == service.full_name
    assert {f"/{service.full_name}/{method.name}": method.server_streaming for method in service.methods} == {
        method.path: method.streaming for method in api.methods
    }
    for method in api.methods:
        described = service.methods_by_name[method.path.rpartition("/")[2]]
        assert described.input_type.full_name == method.request_class.DESCRIPTOR.full_name
        assert described.output_type.full_name == method.response_class.DESCRIPTOR.full_name


@every_api
def test_an_api_is_found_by_path_and_by_request(api: Api) -> None:
    assert all(METHODS[method.path] is method for method in api.methods)
    assert API_BY_REQUEST[type(api.build_request(0))] is api


def test_the_first_item_of_an_answer_is_its_best() -> None:
    title = ranking_pb2.RankedTitle(id="t1", score=0.5)

    first_item = APIS["ranking.v1"].first_item

    assert first_item(ranking_pb2.RankResponse(titles=[title])) == ("t1", 0.5)
    assert first_item(ranking_pb2.RankResponse()) == ("", 0.0)


def test_the_example_of_the_talk_takes_70_bytes_of_compact_json_and_31_of_protobuf() -> None:
    # The talk says 68 bytes, and about 18.
    assert (payloads.JSON_BYTES_CLAIMED, payloads.PROTOBUF_BYTES_CLAIMED) == (68, 18)
    assert (payloads.json_bytes(), payloads.protobuf_bytes()) == (70, 31)
