"""The checker of what models received, and its second reading of what they say about it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from lab.checkers import Outcome, RevisionInForce
from lab.checkers.kinds.delivery import check
from lab.checkers.plain_models import (
    PARTS,
    config_digest,
    context_digest,
    parts_of,
    payload_digest,
    receipt_keys,
    score_of,
)
from models.apis import APIS
from models.context import write_context
from models.proto.serving.v1 import serving_pb2
from models.scoring import scores
from models.stub.receipts import Receipts
from tests.checkers.builders import RECEIPT_KEY, arrivals_of, make_evidence, make_record, receipt_of, two_versions

if TYPE_CHECKING:
    from lab.history import Record


def with_config(**config: Any) -> dict[str, Any]:
    """A table whose version v1 has this config."""
    table = two_versions()
    table["models"]["rows"]["versions"]["v1"]["config"] = config
    return table


def verdict_of(*records: Record, **changes: Any) -> tuple[Outcome, str]:
    """Outcome, and the messages of all violations, of records beside a good one."""
    verdict = check(make_evidence([make_record(90), *records], **changes))
    return verdict.outcome, "; ".join(each.message for each in verdict.violations)


def test_requests_that_arrive_as_sent_are_valid() -> None:
    assert verdict_of(make_record(0), make_record(1, country="", tenant="ads")) == (Outcome.VALID, "")


@pytest.mark.parametrize(
    ("received_as", "part"),
    [
        *(({field: "other"}, "context") for field in ("country", "device", "segment", "user_id", "tenant", "override")),
        ({"request_id": "r7"}, "context"),
        ({"use_case": "UpNext"}, "context"),
        ({"traffic_origin": "artificial"}, "context"),
        ({"version": "v2"}, "config"),
        ({"payload_bytes": 1_310}, "payload"),
    ],
)
def test_a_model_that_received_something_else_is_found(received_as: dict[str, Any], part: str) -> None:
    other = make_record(0, **received_as)

    outcome, message = verdict_of(make_record(0, received=receipt_of(other)))

    assert outcome is Outcome.INVALID
    assert f"received another {part} than was sent" in message


def test_the_config_is_that_of_a_revision_in_force_and_no_other() -> None:
    right, wrong = (make_record(0, received=receipt_of(make_record(0), top=top)) for top in (5, 6))
    in_force = [RevisionInForce(1, with_config(top=5), from_ns=0)]

    assert check(make_evidence([right], revisions=in_force)).outcome is Outcome.VALID
    assert check(make_evidence([wrong], revisions=in_force)).outcome is Outcome.INVALID
    assert check(make_evidence([make_record(0)], revisions=in_force)).outcome is Outcome.INVALID, "config lost"


def test_a_fallback_gets_its_own_config() -> None:
    table = with_config(top=5)
    table["use_cases"]["Rows"]["fallback"] = ["rows@v2"]
    table["models"]["rows"]["versions"]["v2"]["config"] = {"top": 9}
    fell_back = make_record(0, source="fallback", version="v2", cluster="b")

    for top, outcome in ((9, Outcome.VALID), (5, Outcome.INVALID)):
        record = make_record(0, source="fallback", version="v2", cluster="b", received=receipt_of(fell_back, top=top))
        assert check(make_evidence([record], table=table)).outcome is outcome


def test_every_copy_must_have_arrived_whole() -> None:
    record = make_record(0)
    good, empty = receipt_of(record), receipt_of(make_record(0, payload_bytes=0))

    assert verdict_of(record, copies={"rows.v3": [("r0", good)]}) == (Outcome.VALID, "")
    outcome, message = verdict_of(record, copies={"rows.v3": [("r0", good), ("r0", empty)]})
    assert (outcome, message) == (
        Outcome.INVALID,
        "the shadow received another payload than was sent, or than the rules say",
    )


@pytest.mark.parametrize(
    ("received_as", "lost"),
    [
        ({}, ""),
        ({"version": "v2"}, ""),  # of another version that was tried
        ({"country": "other"}, "context"),
        ({"payload_bytes": 1_310}, "payload"),
    ],
)
def test_an_attempt_that_was_not_answered_is_judged(received_as: dict[str, Any], lost: str) -> None:
    record = make_record(0)
    [answered] = arrivals_of([record])
    failed = answered._replace(replica="a-1", status="INTERNAL", received=receipt_of(make_record(0, **received_as)))

    outcome, message = verdict_of(record, arrivals=[answered, failed])

    said = f"a-1 received another {lost} than was sent, or than the rules say"
    assert (outcome, message) == ((Outcome.INVALID, said) if lost else (Outcome.VALID, ""))


def test_the_copy_of_a_torn_request_may_have_the_config_of_the_tear() -> None:
    torn = receipt_of(make_record(0, version="v2"))
    for attempts, outcome in ((1, Outcome.INVALID), (2, Outcome.VALID)):
        assert verdict_of(make_record(0, attempts=attempts), copies={"rows.v3": [("r0", torn)]})[0] is outcome


def test_without_receipts_nothing_is_known() -> None:
    assert verdict_of(make_record(0, received=""))[0] is Outcome.UNKNOWN
    assert verdict_of(make_record(0), copies={"rows.v3": [("r0", "")]})[0] is Outcome.UNKNOWN
    assert verdict_of(make_record(0), receipt_keys={})[0] is Outcome.UNKNOWN
    assert check(make_evidence([make_record(0, status="UNAVAILABLE")])).outcome is Outcome.UNKNOWN


def test_with_the_key_of_one_sender_nobody_can_tell_or_make_the_receipts_of_another() -> None:
    good = make_record(0)
    assert verdict_of(good, receipt_keys=dict.fromkeys(("r0", "r90"), RECEIPT_KEY))[0] is Outcome.VALID
    assert verdict_of(good, receipt_keys={"another": RECEIPT_KEY})[0] is Outcome.UNKNOWN
    keys = receipt_keys(RECEIPT_KEY, ["1f3a.0-0000002c", "1f3a.1-00000001", "2b4c-00000001"])
    assert list(keys) == ["1f3a", "2b4c"]
    assert len({RECEIPT_KEY, *keys.values()}) == 3


class TestSecondReading:
    """The judge's own code agrees with the models', from which it shares nothing."""

    @pytest.mark.parametrize("api", APIS)
    def test_payloads_of_all_sizes(self, api: str) -> None:
        draw = random.Random(20)  # noqa: S311 (no secret)
        for wanted in (0, 1, 90, 128, 1_300, 27_648, 163_840, 2_097_152, *(draw.randrange(60_000) for _ in range(200))):
            request = APIS[api].build_request(wanted)
            size = request.ByteSize()
            receipt = Receipts(RECEIPT_KEY).of(request).hex()
            assert parts_of(receipt)["payload"] == payload_digest(receipt_keys(RECEIPT_KEY, [""])[""], api, size), (
                wanted
            )

    def test_contexts_and_configs(self) -> None:
        context = {"user_id": "ü\x00ñ", "device": "TV", "caller": "homepage", "traffic_origin": "real", "tenant": "3:a"}
        config = {"depth": 3, "rate": 0.5, "on": True, "none": None, "list": [1, "x", {"y": 2}], "é": "ü"}
        request = APIS["ranking.v1"].build_request(400)
        envelope = request.envelope
        envelope.request_id, envelope.use_case = "r1.0-0000002c", "Rows"
        write_context(envelope.context, context)
        envelope.model_config.CopyFrom(serving_pb2.ModelConfig(model="rows", version="v1"))
        envelope.model_config.parameters.update(config)

        parts = parts_of(Receipts(RECEIPT_KEY).of(request).hex())

        key = receipt_keys(RECEIPT_KEY, ["r1.0-0000002c"])["r1"]
        assert parts["context"] == context_digest(key, "r1.0-0000002c", "Rows", context)
        assert parts["config"] == config_digest(key, "rows", "v1", config)
        assert list(parts) == list(PARTS)

    def test_scores(self) -> None:
        for user, item in (("u1", "t01"), ("ü", ""), ("", "p01")):
            assert scores("rows", "v1", user, [item]) == [score_of("rows", "v1", user, item)]
