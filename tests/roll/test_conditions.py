from __future__ import annotations

from random import Random

import pytest

from lab.errors import InputError
from lab.ops.roll.conditions import (
    DEFAULT_CONDITIONS,
    PATIENCE,
    WINDOW_NS,
    Evidence,
    Figures,
    Standing,
    _tail,
    enough,
    parse_conditions,
)


def judge(text: str, seen: Evidence) -> Standing:
    [condition] = parse_conditions(text)
    return condition.judge(seen).standing


@pytest.mark.parametrize(
    ("errors", "requests", "standing"),
    [
        (0, 0, Standing.UNKNOWN),
        (0, 19, Standing.UNKNOWN),
        (0, 100, Standing.UNKNOWN),  # a version that fails 5 % may well get through these
        (1, 20, Standing.UNKNOWN),  # one of twenty is more than 1 %, and may well be chance
        (0, 300, Standing.NOT_MET),
        (3, 300, Standing.NOT_MET),
        (2, 5, Standing.MET),
        (5, 5, Standing.MET),
        (20, 1_000, Standing.MET),
        (12, 1_000, Standing.UNKNOWN),
    ],
)
def test_error_rate(errors: int, requests: int, standing: Standing) -> None:
    assert judge("error-rate>1%", Evidence(new=Figures(requests, errors))) is standing


def test_an_error_rate_of_zero_is_met_by_a_single_error() -> None:
    assert judge("error-rate>0%", Evidence(new=Figures(1_000, 1))) is Standing.MET
    assert judge("error-rate>0%", Evidence(new=Figures(1_000, 0))) is Standing.NOT_MET


def latencies(*values: float) -> Figures:
    """Answers, one in each window."""
    return Figures.of(0, [(number * WINDOW_NS, value) for number, value in enumerate(values)])


@pytest.mark.parametrize(
    ("new", "old", "standing"),
    [
        (latencies(*[1.0] * 100), latencies(*[1.0] * 100), Standing.UNKNOWN),
        (latencies(*[1.0] * 300), latencies(*[1.0] * 300), Standing.NOT_MET),
        (latencies(*[2.0] * 100), latencies(*[1.0] * 100), Standing.MET),
        (latencies(*[2.0] * 10), latencies(*[1.0] * 100), Standing.MET),
        (latencies(*[2.0] * 5), latencies(*[1.0] * 100), Standing.UNKNOWN),  # five windows may well be chance
        (latencies(*[1.0] * 5), latencies(*[1.0] * 100), Standing.UNKNOWN),
        (latencies(*[1.0] * 29, 9.0), latencies(*[1.0] * 100), Standing.UNKNOWN),
        (latencies(*[1.0] * 299, 9.0), latencies(*[1.0] * 100), Standing.NOT_MET),
        (latencies(*[2.0] * 100), latencies(*[1.0] * 5), Standing.UNKNOWN),
        (Figures(), Figures(), Standing.UNKNOWN),
    ],
)
def test_p99_against_the_old_version(new: Figures, old: Figures, standing: Standing) -> None:
    assert judge("p99>1.5x", Evidence(new, old)) is standing


@pytest.mark.parametrize(
    ("misroutes", "standing"), [(0, Standing.NOT_MET), (1, Standing.MET), (None, Standing.UNKNOWN)]
)
def test_misroutes(misroutes: int | None, standing: Standing) -> None:
    assert judge("misroutes>0", Evidence(misroutes=misroutes)) is standing


def test_the_tail_is_that_of_the_binomial() -> None:
    assert _tail(1, 20, 0.01) == pytest.approx(1 - 0.99**20)
    assert _tail(0, 20, 0.01) == pytest.approx(1.0)
    assert _tail(20, 20, 0.5) == pytest.approx(0.5**20)
    assert _tail(2, 3, 0.5) == pytest.approx(0.5)


@pytest.mark.parametrize("limit", [0.0, 0.001, 0.01, 0.05, 0.3, 0.9])
def test_enough_requests_reveal_a_version_that_is_five_times_worse(limit: float) -> None:
    random = Random(7)  # noqa: S311 (not security-relevant)
    bad = max(0.01, min(5 * limit, (1 + limit) / 2))
    [condition] = parse_conditions(f"error-rate>{100 * limit:g}%")
    caught = [
        condition.judge(
            Evidence(new=Figures(enough(limit), sum(random.random() < bad for _ in range(enough(limit)))))
        ).standing
        for _ in range(500)
    ]

    assert caught.count(Standing.MET) / len(caught) >= 0.9 - 5 * (0.9 * 0.1 / 500) ** 0.5


def test_a_judgement_states_the_figures_n_and_power() -> None:
    [rate, slow, misroutes] = parse_conditions("error-rate>5%,p99>1.5x,misroutes>0")
    seen = Evidence(new=latencies(*[1.0] * 300), old=latencies(*[1.0] * 300), judged=600)

    assert str(rate.judge(seen)) == "error rate of the new version 0 % ≤ 5 %; n = 300, power 100 % against 25 %"
    assert str(misroutes.judge(seen)) == "0 misrouted ≤ 0; n = 600, power 100 % against 1 %"
    assert str(slow.judge(seen)).startswith(
        "p99 1.00 ms, usually 1.00 ms of the old version; 0 % ≤ 1 % took longer than 1.5 times that; n = 300, power 9"
    )


@pytest.mark.parametrize("text", ["", DEFAULT_CONDITIONS, " misroutes>0 , p99>2x "])
def test_conditions_are_read(text: str) -> None:
    assert len(parse_conditions(text)) == len([part for part in text.split(",") if part.strip()])


@pytest.mark.parametrize("text", ["error-rate>1", "p99>fast", "p99>1.5.2x", "misroutes>0.5", "latency>1x"])
def test_other_conditions_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--abort-on: "):
        parse_conditions(text)


WINDOWS, EACH = 100, 20


def by_window(late_in: dict[int, int], *, each: int = EACH) -> Figures:
    """Some answers a window, each of 10 ms but for some late ones; ``late_in`` has their number by window."""
    return Figures.of(
        0,
        [
            (window * WINDOW_NS + number, 100.0 if number < late_in.get(window, 0) else 10.0)
            for window in range(WINDOWS)
            for number in range(each)
        ],
    )


@pytest.mark.parametrize(
    ("late_in", "standing"),
    [
        (dict.fromkeys(range(60), 1), Standing.MET),  # one of twenty in most windows
        (dict.fromkeys((7, 30, 31), EACH), Standing.NOT_MET),  # as many, but in three bursts
    ],
)
def test_bursts_of_a_busy_machine_do_not_abort(late_in: dict[int, int], standing: Standing) -> None:
    old = by_window({50: EACH - 1})

    assert judge("p99>1.5x", Evidence(new=by_window(late_in), old=old)) is standing


def test_bursts_are_undecided_until_more_requests_were_seen() -> None:
    few = Figures(300, 0, [10.0] * 280 + [100.0] * 20, {0: [10.0], 1: [100.0]})
    old = Figures(300, 0, [10.0] * 300, {0: [10.0], 1: [10.0]})

    assert judge("p99>1.5x", Evidence(new=few, old=old)) is Standing.UNKNOWN


def test_a_control_with_fewer_requests_is_late_in_as_many_windows() -> None:
    busy = dict.fromkeys(range(0, WINDOWS, 2), 1)  # one of the first answers, in every other window
    calm = Evidence(old=by_window({}), other=by_window({}, each=5))
    evidence = Evidence(new=by_window(busy), other=by_window(busy, each=5), before=calm)

    assert judge("p99>1.5x", evidence) is Standing.NOT_MET


REQUESTS, A_CONTROL, SECONDS = 150, 50, 10


def step(
    random: Random, *, times: float = 1.0, busy: float = 1.0, before: Evidence | None = None, from_s: int = 0
) -> Evidence:
    """Ten seconds of a log-normal model, on a machine that at times holds all up; as busy as in the mean, or more."""
    bursts = [(random.uniform(0, SECONDS), random.expovariate(1 / 0.03 / busy)) for _ in range(int(3 * busy))]

    def served(rate: int, times: float) -> Figures:
        answered = []
        for _ in range(rate * SECONDS):
            due = random.uniform(0, SECONDS)
            held = sum(max(0.0, at + lasts - due) for at, lasts in bursts if at <= due)
            ms = times * random.lognormvariate(1.0, 0.4) * busy**0.5 + 1e3 * held
            answered.append((int((from_s + due) * 1e9), ms))
        return Figures.of(0, answered)

    new = served(REQUESTS if before else REQUESTS // 2, times)
    old = served(0 if before else REQUESTS // 2, 1.0)
    return Evidence(new, old, served(A_CONTROL, 1.0), before)


def test_the_same_version_is_no_slower_at_100_percent_and_one_of_twice_the_time_is_found() -> None:
    random = Random(9)  # noqa: S311 (not security-relevant)

    def aborts(times: float, *busy: float) -> bool:
        """Of a last step; the machine is as busy at the step before as the first of ``busy``, then as any."""
        before = step(random, busy=busy[0])
        evidence = Evidence(before=before)
        [condition] = parse_conditions("p99>1.5x")
        for number in range(PATIENCE):
            more = step(random, times=times, busy=random.choice(busy), before=before, from_s=SECONDS * number)
            evidence = evidence.with_more(more)
            if (found := condition.judge(evidence).found).settled:
                break
        return found.standing is Standing.MET

    assert sum(aborts(1.0, 1.0, 0.5, 4.0) for _ in range(60)) <= 1
    assert sum(aborts(2.0, 0.3) for _ in range(20)) >= 19
    assert sum(aborts(2.0, 1.0) for _ in range(20)) >= 19


@pytest.mark.parametrize(
    ("old_errors", "late", "standing"),
    [
        (350, False, Standing.MET),  # in time: the limit counts, not the old version
        (350, True, Standing.NOT_MET),
        (20, True, Standing.MET),
    ],
)
def test_failures_that_a_busy_machine_brings_to_both_do_not_abort(
    old_errors: int, standing: Standing, *, late: bool
) -> None:
    evidence = Evidence(new=Figures(1_200, 360), old=Figures(1_200, old_errors), late=late)

    assert judge("error-rate>1%", evidence) is standing


@pytest.mark.parametrize(
    ("old_errors", "against"),
    [(350, "not clearly worse than the old version's 29 %"), (20, "worse than the old version's 1.7 %")],
)
def test_a_rate_above_the_limit_is_set_against_the_old_version(old_errors: int, against: str) -> None:
    [condition] = parse_conditions("error-rate>1%")
    evidence = Evidence(new=Figures(1_200, 360), old=Figures(1_200, old_errors), late=True)

    assert condition.judge(evidence).found.because == f"error rate of the new version 30 % > 1 %, {against}"
