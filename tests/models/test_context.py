from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.plain_text import is_plain
from models.context import FIELDS, TEXT_FIELDS, read_context, write_context
from models.proto.serving.v1 import serving_pb2

texts = st.fixed_dictionaries({}, optional={field: st.text(min_size=1, max_size=5) for field in TEXT_FIELDS})
origins = st.fixed_dictionaries({}, optional={"traffic_origin": st.sampled_from(["real", "artificial"])})


def test_the_fields_are_those_of_the_message() -> None:
    assert set(FIELDS) == set(serving_pb2.RequestContext.DESCRIPTOR.fields_by_name)


@given(texts, origins)
def test_a_written_context_is_read_again(text: dict[str, str], origin: dict[str, str]) -> None:
    message = serving_pb2.RequestContext(user_id="left over", traffic_origin=serving_pb2.TRAFFIC_ORIGIN_REAL)
    write_context(message, text | origin)
    if all(map(is_plain, text.values())):
        assert read_context(message) == text | origin
    else:
        with pytest.raises(ValueError, match="contains a control character; leave it out"):
            read_context(message)


def test_an_empty_field_is_a_lacking_one() -> None:
    message = serving_pb2.RequestContext()
    write_context(message, {"device": "", "traffic_origin": ""})
    assert read_context(message) == {}


@pytest.mark.parametrize(
    ("context", "complaint"),
    [
        ({"colour": "red"}, r"no field 'colour'; there are user_id, device"),
        ({"traffic_origin": "unreal"}, r"'unreal' is not known; write 'real' or 'artificial'"),
    ],
)
def test_a_context_that_does_not_exist_is_refused(context: dict[str, str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        write_context(serving_pb2.RequestContext(), context)


def test_an_origin_that_does_not_exist_is_not_taken_for_none() -> None:
    with pytest.raises(ValueError, match="traffic_origin: 7 is not known; write 'real' or 'artificial'"):
        read_context(serving_pb2.RequestContext(traffic_origin=7))  # type: ignore[arg-type]  # protobuf lets it through
