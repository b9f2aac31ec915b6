"""Reservations of a gateway: from the pick to the end or the limit, by the gateway and by the second count."""

from __future__ import annotations

from typing import Any

import pytest

from lab.pickers import PICKERS
from lab.plugins.pickers.reservations import Reserved
from lab.routing.resilience import Policy
from services.gateway.attempts_in_flight import AttemptsInFlight
from services.gateway.channel_pool import ChannelPool
from services.gateway.picks import Picking, PickLog, SignalSettings
from services.gateway.replicas import Replicas

SIGNAL = {"source": "reserved", "release_ms": 10_000}
S = 1_000_000_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the gateway sees, seconds."""
    now = [100.0]
    monkeypatch.setattr("services.gateway.attempts_in_flight.time.monotonic", lambda: now[0])
    return now


def test_a_reservation_lasts_until_it_is_released_or_for_its_limit(clock: list[float]) -> None:
    attempts = AttemptsInFlight(10.0)
    attempts.add(1, 500)
    clock[0] += 6
    attempts.add(2, 30)
    assert attempts.reserved() == (2, 530)

    clock[0] += 5
    assert attempts.reserved() == (1, 30)
    assert len(attempts) == 2
    attempts.end(2)
    attempts.end(1)
    assert (len(attempts), attempts.reserved()) == (0, (0, 0))


def pick(number: int, at_s: float, *, slots: int = 0, tokens: int = 0, asks: int = 100) -> dict[str, Any]:
    seen = [{"address": "a", "waiting": slots, "tokens": tokens}, {"address": "b", "waiting": 0, "tokens": 0}]
    asked = {"tokens": asks}
    return {"number": number, "at_ns": int(at_s * S), "took_ns": 0, "asked": asked, "seen": seen, "picked": "a"}


def test_the_second_count_knows_what_is_reserved() -> None:
    reserved = Reserved(SIGNAL)
    first = pick(1, 0)
    assert reserved.objection(first) == ""
    reserved.took(first)

    assert reserved.objection(pick(2, 1, slots=1, tokens=100)) == ""
    assert "saw 2 slots and 200 tokens" in reserved.objection(pick(2, 1, slots=2, tokens=200))
    assert "saw 0 slots" in reserved.objection(pick(2, 1))
    assert "1 to 1 and 100 to 100 were" in reserved.objection(pick(2, 1, slots=1, tokens=90))
    at_the_limit = [reserved.objection(pick(2, 10, slots=each, tokens=100 * each)) for each in (0, 1)]
    assert at_the_limit == ["", ""]
    assert "0 to 0" in reserved.objection(pick(2, 11, slots=1, tokens=100))
    reserved.over(first)
    assert reserved.objection(pick(3, 2)) == ""


def test_other_signals_reserve_nothing_that_is_judged() -> None:
    assert Reserved({"stale": "use"}).objection(pick(1, 0, slots=5)) == ""


async def test_attempts_to_a_replica_that_was_lost_and_comes_back_still_count() -> None:
    channels = ChannelPool()
    picking = Picking(SignalSettings("reserved"), PickLog())
    group = Replicas(Policy(), channels, PICKERS["queue-depth"], picking)
    attempts = group.attempts_to("127.0.0.1:1")
    attempts.add(1, 30)

    group.put_in_force({})
    assert group.attempts_to("127.0.0.1:1") is attempts
    attempts.end(1)
    group.put_in_force({})
    assert group.attempts_to("127.0.0.1:1") is not attempts
    await channels.close()
