"""Cuts connections that make this process's memory grow far beyond what they sent, or near its limit.

gRPC decodes headers before any code of a unit sees them, and its limits hold only for a client that has acknowledged
them: one byte on the wire becomes 80 to 240 bytes here. So a thread watches resident memory, and what the kernel says
that each accepted connection received. Messages and bodies are not inflated at all, so only headers grow like that.
Linux only: elsewhere nothing is watched.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import math
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from lab.transport import accepted
from lab.transport.cpu_alarm import CpuAlarm

_MB = 2**20
_PAGE = os.sysconf("SC_PAGE_SIZE")
_ALERT_S, _ANCHOR_S = 0.01, 1.0
# A flood takes 2 MB a millisecond of this process's processor time, so looks go by that: a unit at rest needs few.
_LOOK_CPU_S, _REST_S, _WITHOUT_ALARM_S = 0.015, 5.0, 0.05
_ALERT_SWITCH_S = 0.0002  # after each system call that gives up the interpreter's lock, the thread waits for its turn
_ALERT_BYTES, _STEP_BYTES, _RISING_S = 8 * _MB, _MB, 0.3
GROWTH_BYTES = 48 * _MB
"""Growth of memory at which connections are looked at."""
_AFTER_A_CUT_BYTES, _AFTER_A_CUT_S = 12 * _MB, 10.0
_EXPECTED_BYTES, LARGE_BYTES = 256 * _MB, 128 * 1024  # of a table of ten thousand use cases, of one of hundreds
# Of what a connection has sent: a request that waits takes up to 25 times its size, a reference to a header 80 times.
_LEAST_RATIO, _LEAST_RATIO_AFTER_A_CUT, _MOST_RATIO, _OF_A_NEW_ONE_BYTES = 40, 15, 600, 16 * 1024
_MUCH_BYTES = 64 * 1024
_TASK_BYTES = 24 * 1024  # a request that waits, as measured
_OF_THE_LIMIT = 0.75
_FORGET_S = 30.0
_SETTLE_S = 0.04
_SMALL_BYTES = 96 * _MB
_IDLE_SHARE, _IDLE_FOR_S, _TRIES = 0.05, 5.0, 3  # of a processor
_TRIM_AFTER_S = (1.0, 5.0, 20.0)
# What was decoded of connections that were cut is worked off at 100 MB a second or more.
_RELEASE_BYTES, _HOLD_BYTES, _HOLD_ALL_BYTES = 28 * _MB, 40 * _MB, 60 * _MB
_LONGEST_HOLD_S, _LONGEST_HOLD_OF_ALL_S, _TRIM_HELD_S = 10.0, 0.5, 0.2
_BEFORE_A_HOLD_S, _BEFORE_A_HOLD_OF_ALL_S = 0.03, 0.25  # peers send again after 0.2 s
_STUCK_S = 0.5  # a peer that is held for longer sends again after pauses of seconds
_CGROUP = Path("/sys/fs/cgroup/memory.max")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Growth:
    """What happened since the last quiet moment.

    Attributes:
        memory: growth of resident memory, without what requests in flight take, bytes.
        resident: resident memory, bytes.
        limit: of resident memory, bytes; 0 for none.
        received: accepted connection → bytes of it that were read.
        new: those of them that were not open at the last listing, seconds ago or before the growth began.
        unread: accepted connection → bytes of it that wait in the kernel, which become memory next.
    """

    memory: int
    resident: int
    limit: int
    received: Mapping[int, int]
    new: AbstractSet[int] = frozenset()
    unread: Mapping[int, int] = field(default_factory=dict[int, int])

    def culprits(self, least: int = GROWTH_BYTES, least_ratio: int = _LEAST_RATIO) -> list[int]:
        """The connections to cut, if the growth is out of proportion or near the limit: new ones, else what sent much.

        Args:
            least: growth below which none is cut, bytes.
            least_ratio: of growth to what all of them sent, likewise.
        """
        if self.memory < least:
            return []
        is_near_limit = 0 < self.limit * _OF_THE_LIMIT < self.resident
        if self.memory < least_ratio * sum(self.received.values()) and not is_near_limit:
            return []
        sent = {each: size + self.unread.get(each, 0) for each, size in self.received.items()}
        if new := [each for each in self.new if sent[each] >= _OF_A_NEW_ONE_BYTES]:
            return new
        much = max(sent.values(), default=0) // 4
        if not is_near_limit:
            much = min(much, _MUCH_BYTES)
        found = [each for each, size in sent.items() if size >= much]
        return found if _MOST_RATIO * sum(sent[each] for each in found) >= self.memory else []


@dataclass(slots=True)
class Normal:
    """What this process holds when nothing happens: the least that was seen, or what it cannot give back.

    Attributes:
        least: bytes; 0 before anything was seen.
        fruitless: tries in a row to give back what is more.
    """

    least: int = 0
    fruitless: int = 0

    def is_exceeded(self, resident: int) -> bool:
        """Whether there is something to give back."""
        self.least = min(self.least or resident, resident)
        return resident >= self.least + max(_ALERT_BYTES // 2, self.least // 12)

    def gave_back(self, resident: int) -> None:
        """Takes in what is left after a try. A flood may come right after it, so that later looks say nothing."""
        self.fruitless = self.fruitless + 1 if self.is_exceeded(resident) else 0
        if self.fruitless == _TRIES:
            self.least, self.fruitless = resident, 0


class Held(IntEnum):
    """Whose packets are dropped: those of who connected since the first cut or has sent much since then, or all."""

    NOBODY, SOME, ALL = range(3)


@dataclass(slots=True)
class Recovery:
    """After a cut: how much may come in, until what was decoded of it has been worked off.

    A client that connects again as soon as it is cut, or has a thousand connections, would else be decoded faster.

    Attributes:
        before: resident memory before the first cut, bytes; 0 if there was none lately.
        received: connection that had been there for a while → bytes of it that were read by then.
        cut_at: when the last one was, monotonic seconds.
        held: whose packets are dropped now.
        began: when that was first anybody's, monotonic seconds.
        changed_at: when it changed.
        steady: resident memory while somebody is held, bytes, and since when it has been about that.
    """

    before: int = 0
    received: Mapping[int, int] = field(default_factory=dict[int, int])
    cut_at: float = -math.inf
    held: Held = Held.NOBODY
    began: float = -math.inf
    changed_at: float = -math.inf
    steady: tuple[int, float] = (0, -math.inf)

    def was_cut(self, before: int, received: Mapping[int, int], now: float) -> None:
        """Takes in a cut."""
        if not self.before:
            self.before, self.received = before, received
        self.cut_at = now

    def look(self, resident: int, now: float) -> bool:
        """Takes in a look; whether :attr:`held` changed."""
        if not self.held and now - self.cut_at >= _AFTER_A_CUT_S:
            self.before = 0
        if self.held and self._is_stuck(resident, now):
            self.before = resident  # what is left is of others, such as requests that wait
        held = self._wanted(resident - self.before if self.before else 0)
        if self.held is Held.ALL and now - self.changed_at >= _LONGEST_HOLD_OF_ALL_S:
            held = min(held, Held.SOME)
        if self.held and now - self.began >= _LONGEST_HOLD_S:
            held = Held.NOBODY
        before_s = _BEFORE_A_HOLD_OF_ALL_S if self.held else _BEFORE_A_HOLD_S
        if held == self.held or (held > self.held and now - self.changed_at < before_s):
            return False
        if not self.held:
            self.began, self.steady = now, (resident, now)
        self.held, self.changed_at = held, now
        return True

    def _is_stuck(self, resident: int, now: float) -> bool:
        size, since = self.steady
        if abs(resident - size) >= _STEP_BYTES:
            self.steady = resident, now
            return False
        return now - since >= _STUCK_S

    def _wanted(self, above: int) -> Held:
        if above >= _HOLD_BYTES:
            return Held.ALL if above >= _HOLD_ALL_BYTES else Held.SOME
        return min(self.held, Held.SOME) if above >= _RELEASE_BYTES else Held.NOBODY

    def carry_out(self) -> None:
        """Holds them."""
        if self.held:
            accepted.hold(self.spared(accepted.open_connections()))
        else:
            accepted.release()

    def spared(self, connections: Mapping[int, accepted.Accepted]) -> list[int]:
        """Those that are not held: they have sent too little to be the reason, since then if they were there before."""
        if self.held is Held.ALL:
            return []
        little = {number: size + _MUCH_BYTES for number, size in self.received.items()}
        return [
            number
            for number, each in connections.items()
            if each.read + each.unread < little.get(number, _OF_A_NEW_ONE_BYTES)
        ]


class _Expected:
    """How many blocks expect growth, when the last one ended, monotonic seconds, and whether that is to be taken in."""

    blocks, ended, to_take_in = 0, -math.inf, False

    @classmethod
    def still(cls, now: float) -> bool:
        """Whether a block expects growth, or one did a moment ago."""
        return bool(cls.blocks) or now - cls.ended < _ANCHOR_S


def expect_growth(sent_bytes: int, *, stays: bool = False) -> None:
    """Lets memory grow further for a moment, if a message is large: its parts may take a hundred times as much.

    Args:
        sent_bytes: size of the message.
        stays: whether what it makes does not count as growth afterwards; false for what anybody may send.
    """
    if sent_bytes >= LARGE_BYTES:
        _Expected.ended, _Expected.to_take_in = time.monotonic(), stays or _Expected.to_take_in


@contextmanager
def expecting_growth(sent_bytes: int) -> Iterator[None]:
    """While the block runs, memory may grow further, by what a large message says: a table of thousands of use cases.

    Args:
        sent_bytes: size of the message.
    """
    is_large = sent_bytes >= LARGE_BYTES
    _Expected.blocks += is_large
    try:
        yield
    finally:
        _Expected.blocks -= is_large
        expect_growth(sent_bytes, stays=True)


class MemoryGuard:
    """Watches this process; :meth:`start` begins, in a daemon thread.

    Args:
        loop: handles the requests.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._limit = loop, _limit()
        self._anchor, self._received, self._anchored = 0, dict[int, int](), 0.0
        self._listed, self._listed_at = dict[int, int](), 0.0
        self._highest, self._rose_at = 0, -_RISING_S
        self._to_trim = tuple[float, ...]()
        self._normal, self._busy_s, self._idle_since, self._judged_idle = Normal(), 0.0, 0.0, 0.0
        self._statm, self._switch_s = -1, sys.getswitchinterval()
        self._recovery, self._trimmed_at = Recovery(), 0.0

    def start(self) -> None:
        """Begins to watch, where the system can say what a connection received."""
        if hasattr(socket, "TCP_INFO") and Path("/proc/self/statm").exists():
            threading.Thread(target=self._run, name="memory-guard", daemon=True).start()

    def _run(self) -> None:
        self._statm = os.open("/proc/self/statm", os.O_RDONLY)
        looked_at, is_alert = -math.inf, False
        wait = _waits()
        while True:
            resident, now = self._resident(), time.monotonic()
            if is_alert or resident > self._highest or now - looked_at >= _ANCHOR_S:
                with suppress(OSError, RuntimeError, MemoryError):  # connections and tasks come and go
                    self._look(resident, now)
                looked_at, is_alert = now, self._is_alert(now)
            if is_alert:
                time.sleep(_ALERT_S)
            else:
                wait(_ANCHOR_S if self._has_to_give_back() else _REST_S)

    def _resident(self) -> int:
        return int(os.pread(self._statm, 64, 0).split()[1]) * _PAGE

    def _is_alert(self, now: float) -> bool:
        return now - self._rose_at < _RISING_S or bool(self._recovery.before)

    def _has_to_give_back(self) -> bool:
        return bool(self._to_trim) or self._idle_since < self._judged_idle

    def _look(self, resident: int, now: float) -> None:
        if _Expected.to_take_in and not _Expected.still(now):
            # The table is there to stay. A message that anybody may send takes nothing in.
            _Expected.to_take_in, self._anchored = False, 0.0
        grown, age = resident - self._anchor, now - self._anchored
        is_quiet = grown < _ALERT_BYTES and age >= _ANCHOR_S
        if not self._anchored or is_quiet or age >= _FORGET_S:
            self._anchor, self._anchored = resident, now
            self._received = self._list(now)
            self._highest = resident + _ALERT_BYTES
        elif resident > self._highest:
            self._highest, self._rose_at = resident + _STEP_BYTES, now
        elif now - max(self._listed_at, self._rose_at) >= _ANCHOR_S and not self._recovery.held:
            self._list(now)
        if self._is_alert(now):
            sys.setswitchinterval(_ALERT_SWITCH_S)
            if now - self._recovery.cut_at >= _SETTLE_S:
                self._judge(resident, grown, now)
        else:
            sys.setswitchinterval(self._switch_s)
        if self._recovery.look(resident, now) or self._recovery.held is Held.SOME:  # who was spared may send much since
            self._recovery.carry_out()
        is_due = bool(self._to_trim) and now >= self._to_trim[0]
        if is_due or (self._recovery.held and now - self._trimmed_at >= _TRIM_HELD_S):
            self._to_trim, self._trimmed_at = self._to_trim[is_due:], now
            gc.collect()  # requests that ended with an error are in cycles, with all their headers
            _give_back()
        if now - self._judged_idle >= _ANCHOR_S:
            self._trim_when_idle(resident, now)

    def _list(self, now: float) -> dict[int, int]:
        """Takes the connections that are open now for ones that were there before what comes."""
        self._listed = {number: each.read for number, each in accepted.open_connections().items()}
        self._listed_at = now
        return self._listed

    def _trim_when_idle(self, resident: int, now: float) -> None:
        """Gives memory back once nothing has happened for a while, as nothing is delayed then."""
        total_s = time.process_time()
        busy_s, self._busy_s = total_s - self._busy_s, total_s
        since_s, self._judged_idle = now - self._judged_idle, now
        if not self._normal.is_exceeded(resident) or busy_s > _IDLE_SHARE * since_s:
            self._idle_since = now
        elif now - self._idle_since >= _IDLE_FOR_S:
            if resident < _SMALL_BYTES:  # to collect garbage beside a table of ten thousand use cases takes 0.1 s
                gc.collect()
            _give_back()
            self._idle_since = now
            self._normal.gave_back(self._resident())

    def _judge(self, resident: int, grown: int, now: float) -> None:
        least, ratio = GROWTH_BYTES, _LEAST_RATIO
        if now - self._recovery.cut_at < _AFTER_A_CUT_S:
            # What is freed of those that were cut makes the growth by others look less.
            least, ratio = _AFTER_A_CUT_BYTES, _LEAST_RATIO_AFTER_A_CUT
        least = _EXPECTED_BYTES if _Expected.still(now) else least
        grown -= _TASK_BYTES * len(asyncio.all_tasks(self._loop)) if grown >= least else 0
        if grown < least:
            return
        open_now = accepted.open_connections()
        received = {number: each.read - self._received.get(number, 0) for number, each in open_now.items()}
        unread = {number: each.unread for number, each in open_now.items()}
        new = open_now.keys() - self._listed.keys()
        culprits = Growth(grown, resident, self._limit, received, new, unread).culprits(least, ratio)
        for each in culprits:
            peer = accepted.cut(open_now[each].descriptor)
            sizes = received[each] >> 10, unread[each] >> 10, grown >> 20
            _log.warning("cut %s: %d KB received, %d KB unread, memory grew by %d MB", peer, *sizes)
        if culprits:
            self._recovery.was_cut(self._anchor, self._listed, now)
            # The first one stays when it was: a client that connects again at once would put it off for ever.
            self._to_trim = (*self._to_trim[:1], *(now + each for each in _TRIM_AFTER_S))
            self._anchor, self._anchored = resident, now


def _waits() -> Callable[[float], None]:
    """Waits until there is something to look at, or for seconds; where no alarm is to be had, for a moment."""
    try:
        return CpuAlarm(_LOOK_CPU_S).wait
    except OSError:
        return lambda _: time.sleep(_WITHOUT_ALARM_S)


def _give_back() -> None:
    ctypes.CDLL(None).malloc_trim(0)


def _limit() -> int:
    """What the kernel holds this process to, bytes; 0 for nothing."""
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [soft // 2] if soft != resource.RLIM_INFINITY else []  # twice the ceiling, see lab.runtime.process
    with suppress(OSError, ValueError):
        limits.append(int(_CGROUP.read_text()))
    return min(limits, default=0)
