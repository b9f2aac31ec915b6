"""The cycle collector leaves a large table out, and nothing that was garbage before."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from lab.routing.bulk_allocation import freeze_what_follows, gc_disabled


@pytest.fixture(autouse=True)
def _collector() -> Iterator[None]:
    thresholds, had = gc.get_threshold(), gc.get_freeze_count()
    yield
    gc.set_threshold(*thresholds)
    if not had:
        gc.unfreeze()


class Cycle:
    def __init__(self) -> None:
        self.own = self


def frozen_by(entries: int) -> tuple[int, list[list[int]]]:
    gc.collect()
    before = gc.get_freeze_count()
    with gc_disabled(stays=True):
        table = [[number] for number in range(entries)]
    return gc.get_freeze_count() - before, table


def test_a_large_table_is_left_out_of_later_collections_and_freed_by_references() -> None:
    frozen, table = frozen_by(30_000)
    assert frozen >= 30_000

    held = gc.get_freeze_count()
    del table
    assert gc.get_freeze_count() <= held - 30_000


def test_a_small_table_is_collected_as_before() -> None:
    assert frozen_by(1_000)[0] == 0
    freeze_what_follows()
    thresholds = gc.get_threshold()
    frozen_by(1_000)
    freeze_what_follows()
    assert gc.get_threshold() == thresholds


def test_garbage_that_a_large_table_leaves_behind_is_freed_first() -> None:
    with gc_disabled(stays=True):
        table, garbage = [[number] for number in range(30_000)], Cycle()
        gone = weakref.ref(garbage)
        del garbage
    assert gone() is None
    assert len(table) == 30_000


def test_what_is_made_of_a_large_table_is_left_out_once_it_is_in_force() -> None:
    _, table = frozen_by(30_000)
    placed = [[*each] for each in table]
    before = gc.get_freeze_count()

    freeze_what_follows()
    assert gc.get_freeze_count() - before >= len(placed)
    assert gc.get_threshold()[0] > 1_000

    before = gc.get_freeze_count()
    made = [[number] for number in range(1_000)]
    freeze_what_follows()  # nothing large since
    assert gc.get_freeze_count() <= before
    assert len(made) == 1_000
