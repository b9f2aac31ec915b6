"""A broken tool must be caught, and a faultless one left alone."""

import math
from random import Random

import pytest

from lab.measure.compare import exact_median
from lab.measure.control import FALSE_ALARMS, control, control_of_rounds, rounds_to_tell


def moods(count: int, seed: int = 1) -> tuple[Random, list[float]]:
    draw = Random(seed)  # noqa: S311 (no secret)
    return draw, [draw.uniform(0.4, 4.0) for _ in range(count)]


def test_a_real_difference_is_flagged_on_a_noisy_machine() -> None:
    draw, mood = moods(10)
    first = [each + draw.gauss(0, 0.02) for each in mood]
    again = [each + 0.1 + draw.gauss(0, 0.02) for each in mood]

    seen = control("direct", first, again, among=6)

    assert not seen.agrees
    assert seen.doubt == "the A/A control disagrees: direct"
    assert seen.difference.estimate == pytest.approx(0.1, abs=0.03)


def test_a_faultless_tool_is_called_broken_no_more_often_than_promised() -> None:
    # 300 runs of 6 controls: at 2 % a run 6 alarms, sigma 2.4; 18 is 5 sigma off.
    alarms = 0
    for run in range(300):
        draw, mood = moods(10, seed=run)
        for _ in range(6):
            again = [each + draw.lognormvariate(0, 1) - draw.lognormvariate(0, 1) for each in mood]
            alarms += not control("", mood, again, among=6).agrees

    assert alarms <= 18


def test_with_too_few_rounds_a_control_tells_nothing() -> None:
    seen = control("direct", [1.0] * 9, [2.0] * 9, among=6)

    assert (seen.agrees, seen.can_tell) == (True, False)
    assert "rounds are too few" in seen.doubt
    assert control("direct", [1.0] * 10, [2.0] * 10, among=6).can_tell


def test_an_exact_interval_runs_between_order_statistics() -> None:
    values = [float(value) for value in range(1, 11)]

    # Of ten rounds: 2 * (1 + 10) / 1024 lie outside of the second smallest and the second greatest.
    seen = exact_median(values, confidence=1 - 22 / 1024)
    assert (seen.low, seen.high, seen.estimate) == (2.0, 9.0, 5.5)
    wider = exact_median(values, confidence=1 - 21 / 1024)
    assert (wider.low, wider.high) == (1.0, 10.0)
    none = exact_median(values, confidence=1 - 1 / 1024)
    assert (-math.inf, math.inf) == (none.low, none.high)


def test_false_alarms_are_divided_among_a_runs_controls() -> None:
    assert control("", [1.0], [1.0], among=6).difference.confidence == pytest.approx(1 - FALSE_ALARMS / 6)


def rounds_of(count: int, *, even: float = 1.0, seed: int = 1) -> dict[str, list[float]]:
    """Variants of different size and scatter, and one that is constant; even rounds take so much longer."""
    draw = Random(seed)  # noqa: S311 (no secret)
    varying = {
        name: [size * draw.lognormvariate(0, 0.1) * (even if number % 2 else 1.0) for number in range(count)]
        for name, size in (("direct", 1.0), ("mesh", 30.0), ("gateway", 0.01))
    }
    return {**varying, "bytes": [7.0] * count, "never": [math.inf] * count, "nobody": [0.0] * count}


def test_a_bench_whose_rounds_differ_by_turns_is_caught() -> None:
    seen = control_of_rounds(rounds_of(20, even=1.5))

    assert not seen.agrees
    assert seen.difference.estimate == pytest.approx(0.4, abs=0.1)


def test_rounds_of_a_faultless_bench_agree_as_often_as_promised() -> None:
    # At 2 % a run 6 alarms in 300, sigma 2.4; 18 is 5 sigma off.
    assert sum(not control_of_rounds(rounds_of(14, seed=seed)).agrees for seed in range(300)) <= 18


@pytest.mark.parametrize(("count", "can_tell"), [(0, False), (1, False), (13, False), (14, True), (15, True)])
def test_comparing_rounds_takes_two_for_each_round_of_a_control(count: int, can_tell: bool) -> None:  # noqa: FBT001
    assert can_tell == control_of_rounds(rounds_of(count)).can_tell


def test_figures_that_never_change_are_no_difference() -> None:
    seen = control_of_rounds({"bytes": [7.0] * 14, "callers": [0.0] * 14})

    assert (seen.agrees, seen.can_tell, seen.difference.high) == (True, True, 0.0)


@pytest.mark.parametrize("among", [1, 2, 6, 10])
def test_the_rounds_that_tell_are_the_fewest_that_do(among: int) -> None:
    needed = rounds_to_tell(among)

    assert control("", [0.0] * needed, [1.0] * needed, among=among).can_tell
    assert not control("", [0.0] * (needed - 1), [1.0] * (needed - 1), among=among).can_tell
