from __future__ import annotations

from dataclasses import replace
from math import log

import pytest

from lab.console.drawing import Drawing
from lab.console.traffic import BIN, EXAMPLES, TICK_NS, Traffic, bin_of
from tests.checkers.builders import START_NS, make_record, two_versions

DRAWINGS = {"mesh": Drawing("mesh", ["homepage"], [], two_versions())}
FIRST = START_NS // TICK_NS
FAILED = replace(make_record(status="UNAVAILABLE"), routing_key="rows.v1", message="routing key 'rows.v1': none")


def test_requests_are_added_up_by_interval_and_edge() -> None:
    traffic = Traffic()
    traffic.add([make_record(0), make_record(1, cluster="b"), replace(FAILED, sequence=2, request_id="r2")], DRAWINGS)
    traffic.add([make_record(3, done_ns=START_NS + TICK_NS)], DRAWINGS)

    changed = traffic.take_changed()

    assert sorted(changed) == [f"mesh/{FIRST}", f"mesh/{FIRST + 1}"]
    assert changed[f"mesh/{FIRST}"]["s"] == {"OK": 2, "UNAVAILABLE": 1}
    assert changed[f"mesh/{FIRST}"]["e"] == {
        "homepage>homepage-sidecar": [3, 0, 0],
        "homepage-sidecar>a": [1, 1, 1],
        "homepage-sidecar>b": [1, 0, 0],
    }


def test_failures_count_for_the_caller_that_they_hit() -> None:
    traffic = Traffic()
    traffic.add([make_record(0), replace(FAILED, request_id="r1"), replace(FAILED, request_id="r2")], DRAWINGS)

    assert traffic.take_changed()[f"mesh/{FIRST}"]["w"] == {"homepage": [1, 2]}


def test_only_what_has_changed_is_sent_and_whole() -> None:
    traffic = Traffic()
    traffic.add([make_record(0)], DRAWINGS)
    before = traffic.take_changed()
    traffic.add([make_record(1)], DRAWINGS)

    assert before[f"mesh/{FIRST}"]["s"] == {"OK": 1}
    assert traffic.take_changed()[f"mesh/{FIRST}"]["s"] == {"OK": 2}
    assert traffic.take_changed() == {}


def test_requests_that_were_never_sent_and_topologies_that_are_not_drawn_do_not_count() -> None:
    traffic = Traffic()
    traffic.add([make_record(0, status="UNSENT"), make_record(1, topology="gateway")], DRAWINGS)

    assert traffic.take_changed() == {}


def test_failed_requests_are_among_the_examples() -> None:
    traffic = Traffic()
    answered = [make_record(number) for number in range(EXAMPLES)]
    traffic.add([*answered, replace(FAILED, request_id="failed")], DRAWINGS)

    examples = traffic.take_changed()[f"mesh/{FIRST}"]["x"]

    assert len(examples) == EXAMPLES
    assert examples[0][:2] == ("failed", 0)


@pytest.mark.parametrize("latency_ms", [0.0, 0.01, 0.4, 1.0, 37.5, 9_999.0])
def test_a_bin_holds_its_latency(latency_ms: float) -> None:
    upper_ms = 0.01 * BIN ** (bin_of(latency_ms) + 1)

    assert max(latency_ms, 0.01) <= upper_ms * 1.000001
    assert log(upper_ms / max(latency_ms, 0.01)) <= log(BIN) * 1.000001


def test_failed_requests_have_no_latency() -> None:
    traffic = Traffic()
    traffic.add([make_record(0), FAILED], DRAWINGS)

    interval = traffic.take_changed()[f"mesh/{FIRST}"]
    assert sum(interval["s"].values()) == 2
    assert sum(interval["l"].values()) == 1


def test_streams_have_no_latency() -> None:
    traffic = Traffic()
    traffic.add([make_record(0, streamed=1)], DRAWINGS)

    assert traffic.take_changed()[f"mesh/{FIRST}"]["l"] == {}
