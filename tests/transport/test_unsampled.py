"""Requests that are not sampled: who decides that, and what is passed on."""

from __future__ import annotations

import pytest

from lab.transport import unsampled

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"
STATE = ("tracestate", "vendor=1")


def test_what_the_sender_has_decided_is_passed_on_as_it_came() -> None:
    headers = (("x-request-id", "r-1"), ("traceparent", f"{TRACE}-00"), STATE)

    assert unsampled.received(headers) == (("traceparent", f"{TRACE}-00"), STATE)


@pytest.mark.parametrize(
    "traceparent",
    [
        f"{TRACE}-01",
        f"{TRACE}-03",
        f"{TRACE}-0",
        f"{TRACE.upper()}-00",
        f"00-{'0' * 32}-b7ad6b7169203331-00",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-00",
        "00-not-a-parent-00",
        "",
    ],
)
def test_a_sampled_or_broken_parent_decides_nothing_here(traceparent: str) -> None:
    assert unsampled.received([("traceparent", traceparent), STATE]) == ()


def test_two_parents_decide_nothing() -> None:
    assert unsampled.received([("traceparent", f"{TRACE}-00"), ("traceparent", f"{TRACE}-01")]) == ()


def test_the_share_that_is_asked_for_is_sampled_and_others_hear_of_the_rest() -> None:
    drawn = [unsampled.drawn(0.25) for _ in range(10_000)]
    dropped = [each for each in drawn if each]

    assert 0.72 < len(dropped) / len(drawn) < 0.78
    assert [unsampled.received(each) for each in dropped] == dropped
    assert len(set(dropped)) == len(dropped)
    assert (unsampled.drawn(1.0), bool(unsampled.drawn(0.0))) == ((), True)


def test_a_task_knows_it_while_its_request_lasts() -> None:
    headers = unsampled.drawn(0.0)

    with unsampled.UnsampledRequest(headers).current():
        assert unsampled.of_task() == headers
    assert unsampled.of_task() == ()
