"""A record of A/A runs catches a tool that finds differences which do not exist."""

from random import Random

import pytest

from lab.plugins.bench.harness.result import State
from lab.plugins.bench.suites.trust import aa_result


@pytest.mark.parametrize(("biased", "state"), [(0, State.HOLDS), (1, State.HOLDS), (2, State.FAILS), (20, State.FAILS)])
def test_one_run_of_twenty_may_find_a_difference(biased: int, state: State) -> None:
    draw = Random(3)  # noqa: S311 (no secret)
    runs = []
    for number in range(20):
        first = [draw.uniform(1, 2) for _ in range(7)]
        away = [0.5] * 7 if number < biased else [0.3, -0.3, 0.2, -0.1, 0.1, -0.2, 0.0]
        runs.append((first, [one + by for one, by in zip(first, away, strict=True)]))

    [claim] = aa_result(runs).claims

    assert (20 - biased, state) == (claim.figure.estimate, claim.state)


def test_runs_of_too_few_rounds_do_not_count() -> None:
    [claim] = aa_result([([1.0] * 6, [1.0] * 6)] * 20).claims

    assert (claim.figure.estimate, claim.state) == (0, State.FAILS)
