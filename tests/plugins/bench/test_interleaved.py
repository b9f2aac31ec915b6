from functools import partial
from pathlib import Path

import pytest

from lab.client import Endpoints
from lab.measure.pace import RoundPace
from lab.plugins.bench.harness.driver_client import OpenLoopTrial
from lab.plugins.bench.harness.interleaved import REPEATS, Rounds, repeated_if_late
from lab.plugins.bench.harness.variant import LoadPoint, Variant

VARIANT, LOAD_POINT = Variant("mesh", "mesh", Endpoints()), LoadPoint(27_000, rate=500, requests=75)


class LateDriver:
    """A driver that is late so many times."""

    def __init__(self, late: int) -> None:
        self.late, self.taken = late, 0

    def run_at(self, point: LoadPoint, variant: Variant, *, seed: int) -> OpenLoopTrial:
        del point, variant, seed
        self.taken += 1
        pace = RoundPace(offered=500, achieved_rate=400, schedule_delay_p99_ms=9, late=self.taken <= self.late)
        return OpenLoopTrial(float(self.taken), pace, [])


@pytest.mark.parametrize(("late", "taken", "still_late"), [(0, 1, False), (1, 2, False), (9, 1 + REPEATS, True)])
def test_a_late_trial_is_repeated_at_most_twice(late: int, taken: int, still_late: bool) -> None:  # noqa: FBT001
    driver = LateDriver(late)

    trial = repeated_if_late(partial(driver.run_at, LOAD_POINT, VARIANT, seed=1))

    assert (taken, float(taken)) == (driver.taken, trial.p50_ms)
    assert (still_late, taken - 1) == (trial.pace.late, trial.pace.repeated)


def test_figures_of_a_trial_that_stayed_late_are_in_doubt(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    for variant, late in (("mesh", 9), ("direct", 0)):
        trial = repeated_if_late(partial(LateDriver(late).run_at, LOAD_POINT, VARIANT, seed=1))
        rounds.paces[variant, LOAD_POINT] = [trial.pace]

    assert rounds.doubts(LOAD_POINT, "direct") == ()
    [doubt] = rounds.doubts(LOAD_POINT, "direct", "mesh")
    assert doubt.startswith("mesh, 27 KB, 500 rps: the driver could not keep up in 1 round")
    assert rounds.repeated() == REPEATS
