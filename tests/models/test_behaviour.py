from __future__ import annotations

import math
import statistics
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import InputError
from models.stub.behaviour import (
    MAX_MS,
    Behaviour,
    ConstantLatency,
    Draws,
    Latency,
    LiveBehaviour,
    LoadDependentLatency,
    LognormalLatency,
    parse_latency,
)

DRAWS = 2_000
# With so many sigma, one example in 10^9 fails by chance; hypothesis tries a hundred.
SIGMAS = 6.0

seeds = st.integers(0, 2**64 - 1)
milliseconds = st.floats(0, MAX_MS)


@pytest.mark.parametrize(
    ("text", "latency"),
    [
        ("constant:2", ConstantLatency(2.0)),
        ("constant:0", ConstantLatency()),
        ("lognormal:5,0.4", LognormalLatency(5.0, 0.4)),
        ("load:3,16", LoadDependentLatency(3.0, 16.0)),
    ],
)
def test_a_latency_is_read_from_its_short_form(text: str, latency: Latency) -> None:
    assert parse_latency(text) == latency


@pytest.mark.parametrize("text", ["", "constant", "constant:", "constant:1,2", "lognormal:5", "gamma:1", "load:3,x"])
def test_a_malformed_latency_is_refused_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(InputError, match=r"latency: .*lognormal:median_ms,sigma"):
        parse_latency(text)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("constant:-1", "constant.ms"),
        ("constant:nan", "constant.ms"),
        ("constant:inf", "constant.ms"),
        ("constant:600001", "constant.ms"),
        ("lognormal:-5,0.4", "lognormal.median_ms"),
        ("lognormal:5,0", "lognormal.sigma"),
        ("lognormal:5,nan", "lognormal.sigma"),
        ("load:3,0", "load_dependent.knee"),
        ("load:-3,16", "load_dependent.ms"),
    ],
)
def test_a_latency_out_of_range_is_refused_by_field(text: str, field: str) -> None:
    with pytest.raises(InputError, match=rf"^{field}: .* is out of range: use "):
        parse_latency(text)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("error_rate", -0.1),
        ("error_rate", 1.1),
        ("error_rate", math.nan),
        ("warm_up_ms", -1.0),
        ("concurrency_limit", -1),
        ("cold_ms", -1.0),
        ("cold_requests", -1),
        ("churn_ms", math.nan),
        ("tenant_concurrency_limit", -1),
        ("queue_limit", -1),
        ("seed", -1),
        ("seed", 2**64),
        ("refuse_to_load", frozenset({"Not A Key"})),
    ],
)
def test_a_behaviour_out_of_range_is_refused_by_field(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"^{field}: .* is out of range: use "):
        Behaviour(**{field: value})


@given(seeds, milliseconds, st.integers(0, 1_000))
def test_a_constant_latency_is_constant(seed: int, ms: float, others: int) -> None:
    assert ConstantLatency(ms).draw_ms(Random(seed), others) == ms  # noqa: S311 (nothing secret)


@given(seeds, st.floats(0.01, 1_000), st.floats(0.01, 2))
def test_lognormal_draws_have_the_median_and_the_spread_asked_for(seed: int, median_ms: float, sigma: float) -> None:
    draws = Draws(Behaviour(latency=LognormalLatency(median_ms, sigma), seed=seed))

    logs = [math.log(draws.service_ms(0)) for _ in range(DRAWS)]

    # Standard error of a mean, and of a standard deviation, of n normal draws.
    assert abs(statistics.fmean(logs) - math.log(median_ms)) < SIGMAS * sigma / math.sqrt(DRAWS)
    assert abs(statistics.stdev(logs) - sigma) < SIGMAS * sigma / math.sqrt(2 * DRAWS)


@given(seeds, st.floats(0, 1))
def test_the_error_rate_is_kept(seed: int, rate: float) -> None:
    draws = Draws(Behaviour(error_rate=rate, seed=seed))

    failed = sum(draws.fails() for _ in range(DRAWS))

    # One more than the binomial's bound: near 0 and 1 the bound is smaller than one error.
    assert abs(failed - rate * DRAWS) <= SIGMAS * math.sqrt(DRAWS * rate * (1 - rate)) + 1


@pytest.mark.parametrize(("rate", "failures"), [(0.0, 0), (1.0, DRAWS)])
def test_no_errors_and_only_errors_are_exact(rate: float, failures: int) -> None:
    draws = Draws(Behaviour(error_rate=rate))

    assert failures == sum(draws.fails() for _ in range(DRAWS))


@given(st.floats(0, 1_000), st.floats(0.1, 100), st.integers(0, 1_000))
def test_load_dependent_latency_doubles_at_the_knee_and_never_falls_with_load(
    ms: float, knee: float, others: int
) -> None:
    latency = LoadDependentLatency(ms, knee)
    random = Random(1)  # noqa: S311 (nothing secret)

    assert latency.draw_ms(random, 0) == ms
    assert latency.draw_ms(random, others) <= latency.draw_ms(random, others + 1)
    assert LoadDependentLatency(ms, 16).draw_ms(random, 16) == 2 * ms


def test_no_draw_exceeds_the_longest_service_time() -> None:
    draws = Draws(Behaviour(latency=LognormalLatency(MAX_MS, 5)))

    assert max(draws.service_ms(0) for _ in range(DRAWS)) == MAX_MS


@given(seeds)
def test_the_same_seed_draws_the_same(seed: int) -> None:
    behaviour = Behaviour(latency=LognormalLatency(5, 0.4), error_rate=0.5, seed=seed)
    one, other = Draws(behaviour), Draws(behaviour)

    assert [(one.service_ms(0), one.fails()) for _ in range(50)] == [
        (other.service_ms(0), other.fails()) for _ in range(50)
    ]


def test_the_error_rate_has_no_say_in_the_latencies() -> None:
    healthy = Draws(Behaviour(latency=LognormalLatency(5, 0.4)))
    failing = Draws(Behaviour(latency=LognormalLatency(5, 0.4), error_rate=0.5))

    def latencies(draws: Draws) -> list[float]:
        return [draws.service_ms(0) for _ in range(50) if draws.fails() in (True, False)]

    assert latencies(healthy) == latencies(failing)


def test_turning_one_dial_keeps_the_others_and_goes_on_in_the_sequence() -> None:
    live, untouched = (LiveBehaviour(Behaviour(latency=LognormalLatency(5, 0.4), seed=7)) for _ in range(2))
    assert untouched.draws.service_ms(0) == live.draws.service_ms(0)

    live.change(error_rate=0.25)

    assert Behaviour(latency=LognormalLatency(5, 0.4), seed=7, error_rate=0.25) == live.behaviour
    assert untouched.draws.service_ms(0) == live.draws.service_ms(0)


def test_setting_the_same_seed_restarts_the_sequence() -> None:
    live = LiveBehaviour(Behaviour(latency=LognormalLatency(5, 0.4), seed=7))
    first = [live.draws.service_ms(0) for _ in range(5)]

    live.change(seed=7)

    assert first == [live.draws.service_ms(0) for _ in range(5)]


def test_a_refused_turn_changes_nothing() -> None:
    live = LiveBehaviour(Behaviour())

    with pytest.raises(InputError):
        live.change(warm_up_ms=3.0, error_rate=2.0)

    assert Behaviour() == live.behaviour


def test_copies_draw_for_themselves() -> None:
    alone, beside = (LiveBehaviour(Behaviour(latency=LognormalLatency(5, 0.4), seed=3)) for _ in range(2))
    for _ in range(10):
        beside.copy_draws.service_ms(0)

    assert [alone.draws.service_ms(0) for _ in range(10)] == [beside.draws.service_ms(0) for _ in range(10)]


def test_cold_requests_take_longer_each_a_little_less_than_the_one_before_until_it_is_warm() -> None:
    live = LiveBehaviour(Behaviour(latency=ConstantLatency(5.0)))
    live.change(cold_ms=100.0, cold_requests=4)
    assert [live.draws.service_ms(0) for _ in range(2)] == [5.0, 5.0]

    live.start_cold()
    assert [live.draws.service_ms(0) for _ in range(6)] == [105.0, 80.0, 55.0, 30.0, 5.0, 5.0]

    live.start_cold()
    live.change(cold_requests=0)
    assert live.draws.service_ms(0) == 5.0
