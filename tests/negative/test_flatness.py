"""A series that grows is called so, and noise is not."""

import random

import pytest

from tests.negative.flatness import Samples, Trend, trend

RNG = random.Random(1)  # noqa: S311 (no secret)
SECONDS = [float(second) for second in range(0, 600, 2)]


def watched(per_minute: float, noise: float = 1.0, what: str = "MB") -> Trend:
    values = [50 + per_minute * second / 60 + RNG.gauss(0, noise) for second in SECONDS]
    return trend("gateway-1", what, SECONDS, values)


@pytest.mark.parametrize("per_minute", [0.0, -2.0, 0.1])
def test_what_does_not_grow_is_flat(per_minute: float) -> None:
    assert watched(per_minute).flat is True


def test_a_leak_is_seen_with_its_slope() -> None:
    leak = watched(2.0)

    assert leak.flat is False
    assert leak.low < 2.0 < leak.high


def test_descriptors_that_grow_are_seen() -> None:
    assert watched(5.0, noise=0.5, what="descriptors").flat is False


def test_a_unit_that_ran_for_a_moment_is_not_judged() -> None:
    assert trend("gateway-1", "MB", SECONDS[:10], [50.0] * 10).flat is None


@pytest.mark.parametrize(("per_arrival_mb", "flat"), [(138e-6, True), (500e-6, False)])
def test_only_the_evidence_of_requests_may_grow(per_arrival_mb: float, *, flat: bool) -> None:
    arrived = [0.05 * number for number in range(12_000)]
    samples = Samples()
    for second in SECONDS:
        mb = 50 + per_arrival_mb * 20 * second + RNG.gauss(0, 0.1)
        samples.series.setdefault(("replica", 1), []).append((second, mb, 9))

    memory, _ = samples.trends({"replica": arrived})

    assert memory.flat is flat
