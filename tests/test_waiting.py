"""Waiting for a condition: patient, and gentle with the processor of whoever is waited for."""

from datetime import timedelta

import pytest

from lab import waiting
from lab.errors import DeadlineError

_LOOK_S = 0.001


class Clock:
    """Time that passes only while somebody sleeps or looks."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(waiting, "time", clock)
    return clock


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.3, 2.0, 20.0])
def test_what_comes_is_seen_a_twentieth_or_a_fifth_of_a_second_later_at_most(clock: Clock, after_s: float) -> None:
    began, looks = clock.now, 0

    def probe() -> bool:
        nonlocal looks
        looks += 1
        clock.now += _LOOK_S
        return clock.now - began >= after_s

    assert waiting.eventually("it has come", probe, within=timedelta(seconds=30))
    late_s = clock.now - began - after_s
    assert late_s <= min(max(0.02, 0.05 * clock.now - 0.05 * began), 0.2) + 2 * _LOOK_S
    assert looks <= 2 + after_s / 0.02  # every 20 ms at most
    assert looks <= 70 + after_s / 0.2


def test_the_error_says_what_was_seen_last_and_that_was_not_before_the_deadline(clock: Clock) -> None:
    began = clock.now
    seen_at = []

    def probe() -> int:
        seen_at.append(clock.now - began)
        return len(seen_at)

    with pytest.raises(DeadlineError, match=r"pigs fly: not within 7 s; last seen: \d+$") as error:
        waiting.eventually("pigs fly", probe, within=timedelta(seconds=7), until=lambda _: False)
    assert str(error.value).endswith(f" {len(seen_at)}")
    assert 7.0 <= seen_at[-1] <= 7.2
