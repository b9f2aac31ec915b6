from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import log
from typing import Any

import pytest

from lab.plugins.console.drawing import Drawing
from lab.plugins.console.traffic import BIN, EXAMPLES, TICK_NS, Traffic, bin_of
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


def test_a_live_page_keeps_the_newest_intervals_and_counts_the_others() -> None:
    traffic, forever = Traffic(kept=4), Traffic()
    sent: dict[str, Any] = {}
    counts: Counter[str] = Counter()
    for tick in range(200):
        for each in (traffic, forever):
            each.add([make_record(tick, done_ns=START_NS + tick * TICK_NS)], DRAWINGS)
        older, gone = traffic.take_older()
        sent |= traffic.take_changed()
        for key in gone:
            del sent[key]
        if older:
            counts = Counter(older["mesh"]["s"])
            assert older["mesh"]["until"] == FIRST + tick - 4
            assert sorted(sent) == [f"mesh/{FIRST + each}" for each in range(tick - 3, tick + 1)]
        assert len(sent) <= 4 + 41
        assert counts["OK"] + len(sent) == tick + 1
    assert forever.take_older() == ({}, [])
    assert len(forever.take_changed()) == 200

    traffic.add(
        [make_record(200, done_ns=START_NS), make_record(201, status="UNAVAILABLE", done_ns=START_NS)], DRAWINGS
    )

    late, gone = traffic.take_older()
    assert (late["mesh"]["s"], gone) == ({"OK": counts["OK"] + 1, "UNAVAILABLE": 1}, [])
    assert traffic.take_changed() == {}
