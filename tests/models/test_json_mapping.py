"""The JSON mapping, held against protobuf's own."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from hypothesis import example, given
from hypothesis import strategies as st

from lab.errors import CallError
from models.json_mapping import from_document, parse, serialise
from models.proto.fraud.v1 import fraud_pb2
from models.proto.ranking.v1 import ranking_pb2
from models.proto.serving.v1 import serving_pb2

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
# JSON has one NaN; its other bit patterns do not come back.
FLOATS = st.floats(width=32).map(lambda number: math.nan if math.isnan(number) else number)
DOUBLES = st.floats().map(lambda number: math.nan if math.isnan(number) else number)
ENVELOPES = st.builds(
    serving_pb2.Envelope,
    request_id=TEXT,
    use_case=TEXT,
    context=st.none() | st.builds(serving_pb2.RequestContext, user_id=TEXT, traffic_origin=st.integers(0, 3)),
    model_config=st.none() | st.builds(serving_pb2.ModelConfig, model=TEXT, version=TEXT),
)
ANSWERED_BY = st.builds(serving_pb2.AnsweredBy, cluster=TEXT, revision=st.integers(0, 2**64 - 1))
TITLES = st.lists(st.builds(ranking_pb2.Title, id=TEXT, features=st.lists(FLOATS, max_size=4)), max_size=3)
PAYMENTS = st.builds(fraud_pb2.Payment, id=TEXT, amount_minor_units=st.integers(-(2**63), 2**63 - 1))
RANKED = st.lists(st.builds(ranking_pb2.RankedTitle, id=TEXT, score=DOUBLES), max_size=3)
MESSAGES = st.one_of(
    st.builds(ranking_pb2.RankRequest, envelope=ENVELOPES, titles=TITLES),
    st.builds(fraud_pb2.ScoreRequest, envelope=ENVELOPES, payment=PAYMENTS),
    st.builds(ranking_pb2.RankResponse, answered_by=ANSWERED_BY, titles=RANKED),
    st.builds(fraud_pb2.ScoreResponse, answered_by=ANSWERED_BY, payment_id=TEXT, score=DOUBLES),
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | st.sampled_from(["NaN", "Infinity", "1.5", "7", "TRAFFIC_ORIGIN_REAL", 1e39, 3.5, 2.0]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)


def fields_of(descriptor: Any) -> st.SearchStrategy[dict[str, Any]]:
    """JSON objects with a message's field names, the values of which may be anything.

    Messages are objects, though: protobuf's own implementation takes any empty thing for one, which the mapping's text
    does not, and neither does this one.
    """

    def one(field: Any) -> st.SearchStrategy[Any]:
        if field.message_type is None or field.message_type.full_name.startswith("google."):
            return VALUES
        inner = fields_of(field.message_type)
        return st.lists(inner, max_size=2) if field.is_repeated else inner

    return st.fixed_dictionaries({}, optional={field.json_name: one(field) for field in descriptor.fields})


@given(MESSAGES)
@example(ranking_pb2.Title(features=[float.fromhex("0x1.fffffep+127"), -float.fromhex("0x1.fffffep+127")]))
@example(ranking_pb2.Title(features=[float.fromhex("-0x1.fffffep+127"), math.inf]))
def test_a_message_is_the_same_after_json(message: Message) -> None:
    text = serialise(message)
    again = parse(type(message), text)

    assert again.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)
    theirs = json_format.Parse(text, type(message)())
    assert theirs.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)
    ours = parse(type(message), json_format.MessageToJson(message).encode())
    assert ours.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)


@given(fields_of(ranking_pb2.RankRequest.DESCRIPTOR) | fields_of(fraud_pb2.ScoreRequest.DESCRIPTOR), st.booleans())
def test_what_protobuf_refuses_is_refused_and_what_it_takes_means_the_same(document: Any, ranking: bool) -> None:  # noqa: FBT001
    message_class = ranking_pb2.RankRequest if ranking else fraud_pb2.ScoreRequest
    try:
        theirs: Any = json_format.ParseDict(document, message_class())
    except json_format.ParseError:
        with pytest.raises(CallError):
            from_document(message_class, document)
    else:
        ours = from_document(message_class, document)
        assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)


@given(FLOATS)
def test_a_32_bit_float_is_written_no_longer_than_it_must_be(value: float) -> None:
    title = ranking_pb2.Title(features=[value])
    [written] = json.loads(serialise(title))["features"]

    if math.isfinite(value):
        assert struct.pack("<f", written) == struct.pack("<f", value)
        assert len(f"{written:.9g}") <= len(f"{value:.9g}")
    else:
        assert written in {"NaN", "Infinity", "-Infinity"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "body: is not JSON: "),
        ('{"titles": [', "body: is not JSON: "),
        ('{"titles": NaN}', "body: is not JSON: "),
        ("[]", "body: [] is not an object; write {…}"),
        ('{"titels": []}', "titels: ranking.v1.RankRequest has no such field; it has envelope, titles"),
        ('{"titles": {}}', "titles: {} is not an array; write [{…}, …]"),
        ('{"titles": ["t1"]}', 'titles[0]: "t1" is not an object; write {…}'),
        ('{"titles": [{}, {"id": 7}]}', "titles[1].id: 7 is not valid: use a string"),
        ('{"titles": [{"features": "AAAA"}]}', 'titles[0].features: "AAAA" is not an array; write [0.5, …]'),
        (
            '{"titles": [{"features": [0.5, "x"]}]}',
            'titles[0].features: [0.5,"x"] is not valid: use an array, each element a number of 32 bits',
        ),
        (
            '{"titles": [{"features": [1e39]}]}',
            "titles[0].features: [1e+39] is not valid: use an array, each element a number of 32 bits",
        ),
        (
            '{"envelope": {"useCase": "a", "use_case": "b"}}',
            "envelope.use_case: is given twice; useCase is the same field",
        ),
        (
            '{"envelope": {"context": {"trafficOrigin": "TRUE"}}}',
            'envelope.context.trafficOrigin: "TRUE" is not valid: use one of TRAFFIC_ORIGIN_UNSPECIFIED, TRAFFIC_ORIG',
        ),
        (
            '{"envelope": {"modelConfig": {"parameters": 3}}}',
            "envelope.modelConfig.parameters: 3 is not valid: use a google.protobuf.Struct, in its JSON form",
        ),
    ],
)
def test_an_error_names_field_and_remedy(text: str, message: str) -> None:
    with pytest.raises(CallError) as caught:
        parse(ranking_pb2.RankRequest, text.encode())

    assert caught.value.message.startswith(message)
    assert caught.value.code.name == "INVALID_ARGUMENT"
    assert "\n" not in caught.value.message


def test_an_integer_is_bounded_by_its_type() -> None:
    with pytest.raises(CallError, match=r"payment\.amountMinorUnits: 9223372036854775808 .* whole number of 64 bits"):
        parse(fraud_pb2.ScoreRequest, b'{"payment": {"amountMinorUnits": 9223372036854775808}}')
