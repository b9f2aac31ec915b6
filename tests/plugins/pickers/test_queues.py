"""Requests that wait for a replica with room: who goes first, who is shed, and what the second reader objects to."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from random import Random
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from lab.pickers import GATEWAY, PICKERS, Asked, Chooses, Seen, Speed
from lab.plugins.pickers import priority_bands
from lab.plugins.pickers.pick_checks import _follow
from lab.plugins.pickers.readers import READERS
from lab.plugins.pickers.readers.priority_bands import _with_room
from lab.plugins.pickers.replicas import Objection
from services.gateway import pick_queue
from services.gateway.pick_queue import PickQueue
from services.gateway.picks import Picking, PickLog, SignalSettings
from services.gateway.request import FullError, LateError

ADDRESSES = ("10.0.0.1:1", "10.0.0.2:1")
SLOTS = 2
SIGNAL = {"stale": "use"}


class Replica:
    """One of a group's; counts what is in flight to it."""

    def __init__(self, group: Group, address: str) -> None:
        self.group, self.address = group, address
        self.picks: list[int] = []

    def release(self, code: grpc.StatusCode | None = None, request: Any = None) -> None:
        """Ends the oldest attempt."""
        del request
        self.group.log.end(self.picks.pop(0), "CANCELLED" if code is None else code.name)
        self.group.queue.dispatch_soon()


class Group:
    """Replicas with slots, in front of which is the gateway's queue, with the picker and log that it has there."""

    def __init__(self, slots: int = SLOTS) -> None:
        made = PICKERS["priority-bands"].at(GATEWAY)
        assert isinstance(made, Chooses)
        self.chooser: Any = made.make()
        self.log, self.slots, self.full = PickLog(), slots, ""
        self.number = self.log.new_group()
        self.replicas = {each: Replica(self, each) for each in ADDRESSES}
        picking = Picking(SignalSettings(age_s=0.01), self.log)
        self.queue = PickQueue(self, self.chooser, picking, self.number, "priority-bands")  # type: ignore[arg-type]

    def seen(self) -> dict[str, Seen]:
        """All of them, by address."""
        speed = Speed(slots=self.slots)
        return {name: Seen(name, len(its.picks), 0, 0, 0.0, 5.0, speed=speed) for name, its in self.replicas.items()}

    def take(self, tried: Any, request: Any, saw: dict[str, Seen], queued: int = 0) -> Replica:
        """The one that the chooser picks."""
        if self.full:
            raise FullError(self.full)
        seen = [*saw.values()]
        replica = self.replicas[seen[self.chooser.pick(request.asked, seen)].address]
        replica.picks.append(
            self.log.pick(self.number, "priority-bands", request.asked, seen, replica.address, tried, 0, queued=queued)
        )
        return replica

    def objections(self) -> list[Objection]:
        """What the second reader objects to in the log."""
        return [*_follow([json.loads(each) for each in self.log.lines()], SIGNAL)]


@pytest.fixture
async def group() -> AsyncIterator[Group]:
    """A group whose queue waits for nothing at the end."""
    group = Group()
    yield group
    group.queue.close()


def request(number: int, priority: int = 0, flow: str = "a", tokens: int = 100, left_s: float = 10.0) -> Any:
    """What the queue needs of a gateway's request."""
    asked = Asked(f"r-{number}", (), tokens, "", "", "", priority=priority, flow=f"tenant/{flow}")
    attempts = SimpleNamespace(timeout_s=10.0)
    return SimpleNamespace(asked=asked, read=lambda: asked, remaining_s=lambda: left_s, attempts=attempts)


async def overload(group: Group, requests: int = 400) -> Counter[tuple[int, str, str]]:
    """Sends requests of three tenants and two priorities, more than there is room for; counts how they ended."""
    random, ends = Random(5), Counter[tuple[int, str, str]]()  # noqa: S311 (not security-relevant)

    async def ask(number: int) -> None:
        priority, flow = random.choice([-1, 5]), random.choice("aaaabc")
        try:
            replica: Any = await group.queue.take(
                (), request(number, priority, flow, random.choice([1, 100, 700, 20_000]))
            )
        except FullError:
            ends[priority, flow, "shed"] += 1
            return
        for _ in range(random.randrange(1, 30)):
            await asyncio.sleep(0)
        replica.release(grpc.StatusCode.OK)
        ends[priority, flow, "sent"] += 1

    tasks = []
    for number in range(requests):
        tasks.append(asyncio.create_task(ask(number)))
        for _ in range(random.randrange(4)):
            await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    return ends


async def test_the_second_reader_allows_what_the_picker_does_in_an_overload(group: Group) -> None:
    ends = await overload(group)

    assert group.objections() == []
    assert ends[-1, "a", "shed"] > 20
    assert not sum(ends[5, flow, "shed"] for flow in "bc")  # they ask for less than their share
    shares = {(priority, flow): ends[priority, flow, "sent"] for priority in (-1, 5) for flow in "abc"}
    assert all(shares[5, flow] > shares[-1, flow] for flow in "abc"), shares


def _lowest_first(chooser: Any) -> None:
    chooser.next = lambda: next(
        number
        for number, its in chooser._waiting.items()
        if its.priority == min(each.priority for each in chooser._waiting.values()) and not chooser.leave(number)
    )


def _one_tenant_first(chooser: Any) -> None:
    def turn() -> int:
        best = max(chooser._waiting, key=lambda number: (chooser._waiting[number].priority, _is_a(number), -number))
        chooser.leave(best)
        return int(best)

    def _is_a(number: int) -> bool:
        return bool(chooser._waiting[number].flow == "tenant/a")

    chooser.next = turn


def _newest_first(chooser: Any) -> None:
    def turn() -> int:
        best = max(chooser._waiting, key=lambda number: (chooser._waiting[number].priority, number))
        chooser.leave(best)
        return int(best)

    chooser.next = turn


def _needs_every_replica(chooser: Any) -> None:
    chooser.has_room = lambda seen: all(each.in_flight < SLOTS for each in seen)


def _needs_none(chooser: Any) -> None:
    chooser.has_room = lambda seen: sum(each.in_flight for each in seen) < 6


def _sheds(which: Callable[[Any, int], int]) -> Callable[[Any], None]:
    def spoil(chooser: Any) -> None:
        join = chooser.join

        def joins(number: int, asked: Asked) -> int:
            if len(chooser._waiting) < priority_bands.MOST_WAITING:
                return int(join(number, asked))
            victim = which(chooser, number)
            if victim != number:
                chooser.leave(victim)
                join(number, asked)
            return victim

        chooser.join = joins

    return spoil


def _sheds_early(chooser: Any) -> None:
    join = chooser.join

    def joins(number: int, asked: Asked) -> int:
        join(number, asked)
        if len(chooser._waiting) < 30:
            return 0
        chooser.leave(number)
        return number

    chooser.join = joins


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_lowest_first, "of a higher priority than its -1"),
        (_one_tenant_first, "tokens of tenant/a were sent beside those of tenant/"),
        (_newest_first, "before an earlier one of tenant/a"),
        (_needs_every_replica, "it had to wait though 10.0.0."),
        (_needs_none, "it was sent though no replica had room"),
        (_sheds(lambda _, number: number), "it was shed before one of priority -1, which is lower than its 5"),
        (_sheds(lambda chooser, _: min(chooser._waiting)), "it was shed before a later one of tenant/"),
        (_sheds_early, "it was shed for a full queue, in which 29 waited, with room for 64"),
    ],
)
async def test_the_second_reader_objects_to_another_order(
    group: Group, spoil: Callable[[Any], None], said: str
) -> None:
    spoil(group.chooser)
    await overload(group)

    assert said in "; ".join(each.message for each in group.objections())


@pytest.mark.parametrize(
    ("slots", "age_ms", "in_flight", "running", "has_room"),
    [
        (2, 5.0, 1, 0, True),
        (2, 5.0, 2, 0, False),
        (2, 5.0, 0, 2, False),  # of another gateway
        (0, 5.0, 99, 0, True),
        (0, 5.0, 100, 0, False),
        (0, -1.0, 0, 0, True),  # it is back, and has not been read yet
        (0, -1.0, 1, 0, False),
    ],
)
def test_a_replica_has_room_by_its_slots(
    slots: int, age_ms: float, in_flight: int, running: int, *, has_room: bool
) -> None:
    made = PICKERS["priority-bands"].at(GATEWAY)
    each = Seen("10.0.0.1:1", in_flight, 0, running, 0.0, age_ms, speed=Speed(slots=slots))
    other = each._replace(address="10.0.0.2:1", in_flight=1000)

    assert made.make().has_room([other, each]) is has_room
    assert bool(_with_room([other._asdict(), each._asdict()])) is has_room


async def test_a_shed_request_without_an_outcome_is_found(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pick_queue, "QUEUE_FULL", "busy")
    await overload(group)

    assert "the gateway's log does not say why, but 'busy'" in "; ".join(each.message for each in group.objections())


async def filled(group: Group, more: Sequence[Any]) -> tuple[list[Any], list[asyncio.Task[Any]]]:
    """Sends requests until all slots are taken, then those that must wait; returns the replicas, and these."""
    taken = [await group.queue.take((), request(number)) for number in range(len(ADDRESSES) * SLOTS)]
    waiting = [asyncio.create_task(group.queue.take((), each)) for each in more]
    await asyncio.sleep(0)
    assert len(group.queue._waiting) == len(waiting)
    assert not group.queue.is_open
    return taken, waiting


async def test_a_caller_that_leaves_gives_its_place_up(group: Group) -> None:
    taken, [first, second] = await filled(group, [request(10), request(11)])

    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    taken[0].release(grpc.StatusCode.OK)
    assert await second is taken[0]
    assert group.objections() == []


async def test_a_caller_that_leaves_as_it_is_picked_for_gives_its_replica_back(group: Group) -> None:
    taken, [first, second] = await filled(group, [request(10), request(11)])

    taken[0].release(grpc.StatusCode.OK)
    group.queue._dispatch()
    assert len(group.queue._waiting) == 1
    first.cancel()  # its replica is picked, and it has not heard of it
    with pytest.raises(asyncio.CancelledError):
        await first

    assert await second is taken[0]
    assert sum(len(each.picks) for each in group.replicas.values()) == len(taken)
    assert group.objections() == []


async def test_a_request_waits_no_longer_than_its_priority_and_its_use_case_allow(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(priority_bands, "SHEDDABLE_WAIT_S", 0.02)
    _, [sheddable, late] = await filled(group, [request(10, priority=-1), request(11, left_s=0.03)])

    with pytest.raises(FullError, match=r"^shed \(waited-too-long\): no replica had room for it in 20 ms$"):
        await sheddable
    with pytest.raises(LateError, match="no answer within 10000 ms, of which it waited 30 ms for a replica with room"):
        await late
    [objection] = group.objections()
    assert re.fullmatch(r"priority-bands: it was shed for waiting too long after \d+ ms of 500", objection.message)


async def test_those_that_wait_go_without_a_replica_if_there_is_none(group: Group) -> None:
    _, waiting = await filled(group, [request(10), request(11)])
    group.replicas = {}
    assert await asyncio.gather(*waiting) == [None, None]

    group.replicas = {each: Replica(group, each) for each in ADDRESSES}
    assert await group.queue.take((), request(12)) is not None


async def test_a_full_circuit_breaker_reaches_those_that_waited(group: Group) -> None:
    taken, [waiting] = await filled(group, [request(10)])
    group.full = "1 requests are in flight, its circuit breaker's bound"
    taken[0].release(grpc.StatusCode.OK)
    with pytest.raises(FullError, match="circuit breaker's bound"):
        await waiting


async def test_those_that_wait_at_replaced_replicas_are_told(group: Group) -> None:
    _, waiting = await filled(group, [request(10), request(11)])
    group.queue.close()
    assert await asyncio.gather(*waiting) == [None, None]


def waited(ms: float, outcome: str = "", priority: int = 0) -> dict[str, Any]:
    """An entry of the log: a wait of this time, in which no replica had room."""
    asked = {"request_id": "r", "tokens": 100, "priority": priority, "flow": "tenant/a"}
    times = {"at_ns": 1_000_000_000, "ended_ns": 1_000_000_000 + int(ms * 1_000_000)}
    return {"number": 1, "asked": asked, "outcome": outcome, **times}


@pytest.mark.parametrize(
    ("wait", "said"),
    [
        (waited(2_001, "waited-too-long"), []),
        (waited(1_900, "waited-too-long"), ["it was shed for waiting too long after 1900 ms of 2000"]),
        (waited(501, "waited-too-long", priority=-1), []),
        (waited(100, "left"), []),
        (waited(100, "no-attempt"), []),
        (waited(4_100, "no-attempt"), ["it had to wait for 4100 ms, and was to be shed after 2000"]),
        (waited(2_600, "no-attempt", priority=-1), ["it had to wait for 2600 ms, and was to be shed after 500"]),
        (waited(1, "queue-full"), ["it was shed for a full queue, in which 0 waited, with room for 64"]),
    ],
)
def test_the_second_reader_objects_to_waits_that_end_at_another_time(wait: dict[str, Any], said: list[str]) -> None:
    reader = READERS["priority-bands"].make()
    full = [Seen(ADDRESSES[0], SLOTS, 0, 0, 0.0, 5.0, speed=Speed(slots=SLOTS))._asdict()]

    assert [*reader.waits(wait, full)] == []
    assert [*reader.ends(wait, full)] == said


def test_the_second_reader_objects_to_a_request_that_never_joined_the_queue() -> None:
    reader = READERS["priority-bands"].make()
    free = [Seen(ADDRESSES[0], 0, 0, 0, 0.0, 5.0, speed=Speed(slots=SLOTS))._asdict()]
    pick = {"asked": waited(0)["asked"], "tried": [], "queued": 7, "at_ns": 1}

    assert [*reader.sends(pick, free)] == ["it was sent from the queue, in which it was not"]
    assert [*reader.sends({**pick, "queued": 0}, free)] == []
