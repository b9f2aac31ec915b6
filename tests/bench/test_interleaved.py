from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from lab.bench.harness.driver_client import Turn
from lab.bench.harness.interleaved import REPEATS, Rounds, punctual
from lab.bench.harness.variant import Arm, Cell
from lab.client import Endpoints
from lab.measure.pace import RoundPace

if TYPE_CHECKING:
    from pathlib import Path

ARM, CELL = Arm("mesh", "mesh", Endpoints()), Cell(27_000, rate=500, requests=75)


class Turns:
    """A driver that is late so many times."""

    def __init__(self, late: int) -> None:
        self.late, self.taken = late, 0

    def take(self, arm: Arm, cell: Cell, *, seed: int) -> Turn:
        del arm, cell, seed
        self.taken += 1
        pace = RoundPace(offered=500, achieved_rate=400, schedule_delay_p99_ms=9, late=self.taken <= self.late)
        return Turn(float(self.taken), pace, [])


@pytest.mark.parametrize(("late", "taken", "still_late"), [(0, 1, False), (1, 2, False), (9, 1 + REPEATS, True)])
def test_a_late_turn_is_made_again_but_not_for_ever(late: int, taken: int, still_late: bool) -> None:  # noqa: FBT001
    turns = Turns(late)

    turn = punctual(partial(turns.take, ARM, CELL, seed=1))

    assert (taken, float(taken)) == (turns.taken, turn.p50_ms)
    assert (still_late, taken - 1) == (turn.pace.late, turn.pace.repeated)


def test_what_rests_on_a_turn_that_stayed_late_is_doubted(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    for arm, late in (("mesh", 9), ("direct", 0)):
        turn = punctual(partial(Turns(late).take, ARM, CELL, seed=1))
        rounds.paces[arm, CELL] = [turn.pace]

    assert () == rounds.doubts(CELL, "direct")
    [doubt] = rounds.doubts(CELL, "direct", "mesh")
    assert doubt.startswith("mesh, 27 KB, 500 rps: the driver could not keep up in 1 round")
    assert REPEATS == rounds.repeated()
