"""Receipts: what a replica says about a request that it received."""

from __future__ import annotations

import pytest

from models.apis import APIS
from models.proto.ranking.v1 import ranking_pb2
from models.proto.serving.v1 import serving_pb2
from models.stub.receipts import Receipts, payload_seen

REQUEST = APIS["ranking.v1"].build_request(2_000)
RECEIPTS = Receipts("5ec7e7")


def wire(*parts: ranking_pb2.RankRequest) -> bytes:
    """Parts of one message, one after the other, as a proxy may send it: protobuf merges them."""
    return b"".join(part.SerializeToString() for part in parts)


def envelope(use_case: str = "", request_id: str = "") -> ranking_pb2.RankRequest:
    return ranking_pb2.RankRequest(envelope=serving_pb2.Envelope(use_case=use_case, request_id=request_id))


def test_the_payload_is_all_but_the_envelope_wherever_that_stands() -> None:
    alone = payload_seen(wire(REQUEST))

    assert payload_seen(wire(envelope(use_case="A"), REQUEST)) == alone
    assert payload_seen(wire(REQUEST, envelope(use_case="A", request_id="r"))) == alone
    assert payload_seen(wire(envelope(use_case="A"), REQUEST, envelope(request_id="r"))) == alone


@pytest.mark.parametrize("lost", [0, 4, 9])
def test_a_title_that_is_missing_or_changed_shows(lost: int) -> None:
    fewer, other = ranking_pb2.RankRequest(), ranking_pb2.RankRequest()
    fewer.CopyFrom(REQUEST)
    del fewer.titles[lost]
    other.CopyFrom(REQUEST)
    other.titles[lost].features[0] = 0.25

    assert len({payload_seen(wire(each)) for each in (REQUEST, fewer, other)}) == 3


def test_a_sender_cannot_say_what_was_seen() -> None:
    forged = envelope(use_case="A")
    forged.envelope.payload_seen = payload_seen(wire(REQUEST))
    assert payload_seen(wire(forged)) == payload_seen(b"")


def test_a_receipt_depends_on_the_key_and_without_one_there_is_none() -> None:
    assert Receipts("").of(REQUEST) == b""
    assert len(RECEIPTS.of(REQUEST)) == 24
    assert Receipts("another").of(REQUEST) != RECEIPTS.of(REQUEST)
    assert RECEIPTS.of(REQUEST) == RECEIPTS.of(REQUEST)


def test_each_sender_has_a_key_of_its_own_however_many_there_are() -> None:
    def payload(request_id: str) -> bytes:
        return RECEIPTS.of(ranking_pb2.RankRequest(envelope=serving_pb2.Envelope(request_id=request_id)))[16:]

    assert payload("1f3a.0-00000001") == payload("1f3a.1-00000002") != payload("2b4c-00000001")
    assert len({payload(f"{number}-1") for number in range(1_500)}) == 1_500
    assert payload("1f3a-1") == payload("1f3a.0-00000001")


def test_what_is_no_protobuf_is_a_value_error() -> None:
    with pytest.raises((ValueError, IndexError)):
        payload_seen(b"\xff\xff")
    with pytest.raises(ValueError, match="wire type 7"):
        payload_seen(b"\x0f")
