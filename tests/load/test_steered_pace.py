from __future__ import annotations

from random import Random

import pytest

from lab.load.arrivals import Constant, Share, schedule
from lab.load.locust.pacing import NS, ClosedLoop, Deal, OwnPace, Slots

START_NS = 5 * NS
DRAW = Random(1)  # noqa: S311 (no secret)


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_workers_share_a_schedule_without_gap_or_double(workers: int) -> None:
    whole = schedule(Constant(100, 1), 400)
    turns = []
    for index in range(workers):
        slots = Slots(whole.of(Share(index, workers)), START_NS)
        turns.extend(iter(lambda slots=slots: slots.turn(0), None))

    turns.sort()

    assert list(range(100)) == [turn.sequence for turn in turns]
    assert [START_NS + offset for offset in whole.offsets_ns] == [turn.intended_ns for turn in turns]


def test_a_slot_is_due_when_it_was_planned_however_late_somebody_comes_for_it() -> None:
    slots = Slots(schedule(Constant(10, 1), 400), START_NS)
    slots.turn(START_NS)

    late = slots.turn(START_NS + 60 * NS)

    assert late is not None
    assert START_NS + NS // 10 == late.intended_ns


def test_a_users_own_pace_owes_what_a_slow_answer_held_up() -> None:
    pace = OwnPace(Deal(Share()), NS, DRAW)

    first, *others = [pace.turn(now) for now in (START_NS, START_NS + 30 * NS, START_NS + 31 * NS)]

    assert START_NS <= first.intended_ns < START_NS + NS
    assert [first.intended_ns + NS, first.intended_ns + 2 * NS] == [turn.intended_ns for turn in others]


def test_in_a_closed_loop_a_request_is_due_when_the_wait_has_ended() -> None:
    pace = ClosedLoop(Deal(Share(1, 2)))

    first = pace.turn(START_NS)
    pace.waits(START_NS + NS, 2.0)
    after_wait = pace.turn(START_NS + 3 * NS + 7)
    at_once = pace.turn(START_NS + 4 * NS)

    assert [START_NS, START_NS + 3 * NS, START_NS + 4 * NS] == [
        turn.intended_ns for turn in (first, after_wait, at_once)
    ]
    assert [1, 3, 5] == [turn.sequence for turn in (first, after_wait, at_once)]


def test_paces_of_one_process_deal_from_one_pack() -> None:
    deal = Deal(Share(2, 3))
    paces = [OwnPace(deal, NS, DRAW), ClosedLoop(deal), OwnPace(deal, NS, DRAW)]

    assert [2, 5, 8, 11, 14, 17] == [pace.turn(START_NS).sequence for _ in range(2) for pace in paces]
