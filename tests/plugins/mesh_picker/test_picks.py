"""A client's picks of one key: what it sees of replicas by each source of the signal, and when that is too old."""

from __future__ import annotations

import pytest

from lab.pickers import Asked
from lab.plugins.mesh_picker import picks
from lab.plugins.mesh_picker.picks import LAST_S, Attempt, KeyPicks
from lab.routing.slo import Slo
from models.proto.control.v1 import picks_pb2
from services.gateway.picks import PickLog

A, B = "10.0.0.1:1", "10.0.0.2:1"
ASKED = Asked("r-1", (), 40, "", "", "")


class Clock:
    """Replaces the monotonic clock."""

    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def perf_counter_ns(self) -> int:
        return int(1e9 * self.now_s)


class Sink:
    """In place of the client's reports."""

    def noted(self, number: int) -> None:
        """Takes a pick's number."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(picks, "time", clock)
    return clock


def message(signal: str = "{}", picker: str = "queue-depth", **waiting: int) -> picks_pb2.ReplicasOfKey:
    found = picks_pb2.ReplicasOfKey(picker=picker, signal=signal)
    for address, number in zip((A, B), (waiting.get("a", 0), waiting.get("b", 0)), strict=True):
        found.replicas.add(address=address, load=picks_pb2.GetLoadResponse(waiting=number, running=1), age_ms=10)
    found.objectives["Chat"].first_token_ms = 25
    return found


def attempt(key: KeyPicks, address: str, number: int) -> Attempt:
    return Attempt(Sink(), key, ASKED, address, number)  # type: ignore[arg-type]


async def test_a_reading_grows_older_at_the_client_and_is_not_used_after_its_time(clock: Clock) -> None:
    key = KeyPicks()
    assert key.seen() == []
    key.came(message(a=3))
    clock.now_s += 0.5

    assert [(each.waiting, each.running, each.age_ms) for each in key.seen()] == [(3, 1, 510), (0, 1, 510)]
    assert key.objectives == {"Chat": Slo(25.0, 0.0)}
    assert key.pick(ASKED, key.seen(), PickLog()) == (B, 1)
    clock.now_s += LAST_S - 0.5
    assert key.seen() == []


@pytest.mark.parametrize(
    ("signal", "before", "after"),
    [
        ('{"source": "scraped"}', [(1, 3, 0), (0, 0, 0)], [(1, 3, 0), (0, 0, 0)]),
        ('{"source": "counted", "age_ms": 50}', [(1, 0, 0), (0, 0, 0)], [(1, 1, 0), (0, 0, 0)]),
        ('{"source": "counted", "age_ms": 0}', [(1, 1, 0), (0, 0, 0)], [(1, 1, 0), (0, 0, 0)]),
        ('{"source": "reserved"}', [(1, 1, 40), (0, 0, 0)], [(1, 1, 40), (0, 0, 0)]),
    ],
)
async def test_what_a_client_counts_by_itself_is_of_its_own_attempts(
    clock: Clock, signal: str, before: list[tuple[int, int, int]], after: list[tuple[int, int, int]]
) -> None:
    del clock
    key = KeyPicks()
    key.came(message(signal, a=3))
    attempt(key, A, 1)

    assert [(each.in_flight, each.waiting, each.tokens) for each in key.seen()] == before
    key.came(message(signal, a=3))
    assert [(each.in_flight, each.waiting, each.tokens) for each in key.seen()] == after
    key.attempts_to(A).end(1)
    assert [each.in_flight for each in key.seen()] == [0, 0]


async def test_a_picker_that_goes_by_no_more_than_the_replicas_has_no_log() -> None:
    key, log = KeyPicks(), PickLog()
    key.came(message(picker="round-robin"))

    first, second, third = (key.pick(ASKED, key.seen(), log) for _ in range(3))
    assert {first, second} == {(A, 0), (B, 0)}
    assert third == first
    assert log.lines() == []
