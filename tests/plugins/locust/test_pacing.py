from functools import partial
from random import Random

import pytest

from lab.load.arrivals import Constant, Share, schedule
from lab.plugins.locust.pacing import NS, ClosedLoopPacing, DueRequest, RatePacing, ScheduledPacing, sequence_numbers

START_NS = 5 * NS
DRAW = Random(1)  # noqa: S311 (no secret)


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_workers_share_a_schedule_without_gap_or_double(workers: int) -> None:
    whole = schedule(Constant(100, 1), 400)
    turns: list[DueRequest] = []
    for index in range(workers):
        slots = ScheduledPacing(whole.of(Share(index, workers)), START_NS)
        turns.extend(iter(partial(slots.next_request, 0), None))

    turns.sort()

    assert [due.sequence for due in turns] == list(range(100))
    assert [START_NS + offset for offset in whole.offsets_ns] == [due.intended_ns for due in turns]


def test_a_slot_is_due_when_it_was_planned_however_late_somebody_comes_for_it() -> None:
    slots = ScheduledPacing(schedule(Constant(10, 1), 400), START_NS)
    slots.next_request(START_NS)

    late = slots.next_request(START_NS + 60 * NS)

    assert late is not None
    assert late.intended_ns == START_NS + NS // 10


def test_a_users_own_pace_owes_what_a_slow_answer_held_up() -> None:
    pace = RatePacing(sequence_numbers(Share()), NS, DRAW)

    first, *others = [pace.next_request(now) for now in (START_NS, START_NS + 30 * NS, START_NS + 31 * NS)]

    assert START_NS <= first.intended_ns < START_NS + NS
    assert [due.intended_ns for due in others] == [first.intended_ns + NS, first.intended_ns + 2 * NS]


def test_in_a_closed_loop_a_request_is_due_when_the_wait_has_ended() -> None:
    pace = ClosedLoopPacing(sequence_numbers(Share(1, 2)))

    first = pace.next_request(START_NS)
    pace.waits(START_NS + NS, 2.0)
    after_wait = pace.next_request(START_NS + 3 * NS + 7)
    at_once = pace.next_request(START_NS + 4 * NS)

    assert [due.intended_ns for due in (first, after_wait, at_once)] == [START_NS, START_NS + 3 * NS, START_NS + 4 * NS]
    assert [due.sequence for due in (first, after_wait, at_once)] == [1, 3, 5]


def test_paces_of_one_process_deal_from_one_pack() -> None:
    numbers = sequence_numbers(Share(2, 3))
    paces: list[RatePacing | ClosedLoopPacing] = [
        RatePacing(numbers, NS, DRAW),
        ClosedLoopPacing(numbers),
        RatePacing(numbers, NS, DRAW),
    ]

    assert [pace.next_request(START_NS).sequence for _ in range(2) for pace in paces] == [2, 5, 8, 11, 14, 17]
