"""Cuts connections that make this process's memory grow far beyond what they sent, or near its limit.

gRPC decodes headers before any code of a unit sees them, and its limits hold only for a client that has acknowledged
them: one byte on the wire becomes 80 to 240 bytes here. So a thread watches resident memory, and what the kernel says
that each accepted connection received. Messages and bodies are not inflated at all, so only headers grow like that.
Linux only: elsewhere nothing is watched.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import gc
import logging
import math
import os
import re
import resource
import socket
import struct
import sys
import termios
import threading
import time
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_MB = 2**20
_PAGE = os.sysconf("SC_PAGE_SIZE")
_IDLE_S, _ALERT_S, _ANCHOR_S = 0.05, 0.01, 1.0  # a flood takes 2 MB a millisecond
_ALERT_SWITCH_S = 0.0002  # to look makes a hundred system calls, after each of which the thread waits for its turn
_ALERT_BYTES, _STEP_BYTES, _RISING_S = 8 * _MB, _MB, 0.3
GROWTH_BYTES = 48 * _MB
"""Growth of memory at which connections are looked at."""
_AFTER_A_CUT_BYTES, _AFTER_A_CUT_S = 12 * _MB, 10.0
_EXPECTED_BYTES, LARGE_BYTES = 256 * _MB, 128 * 1024  # of a table of ten thousand use cases, of one of hundreds
# Of what a connection has sent: a request that waits takes up to 25 times its size, a reference to a header 80 times.
_LEAST_RATIO, _MOST_RATIO, _OF_A_NEW_ONE_BYTES = 40, 600, 16 * 1024
_TASK_BYTES = 24 * 1024  # a request that waits, as measured
_OF_THE_LIMIT = 0.75
_FORGET_S = 30.0
_SETTLE_S = 0.04
_SMALL_BYTES = 96 * _MB
_IDLE_BUSY_S, _IDLE_FOR_S, _TRIES = 0.05, 5.0, 3
_TRIM_AFTER_S = (1.0, 5.0, 20.0)
_TCP_ESTABLISHED, _BYTES_RECEIVED_AT = 1, 128  # of Linux's struct tcp_info
_DESCRIPTORS = "/proc/self/fd"
_CGROUP = Path("/sys/fs/cgroup/memory.max")
_AF_UNSPEC = b"\0" * 16

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Growth:
    """What happened since the last quiet moment.

    Attributes:
        memory: growth of resident memory, without what requests in flight take, bytes.
        resident: resident memory, bytes.
        limit: of resident memory, bytes; 0 for none.
        received: accepted connection → bytes that it has received.
        new: those of them that were opened since.
    """

    memory: int
    resident: int
    limit: int
    received: Mapping[int, int]
    new: AbstractSet[int] = frozenset()

    def culprits(self, least: int = GROWTH_BYTES) -> list[int]:
        """The connections to cut, if the growth is out of proportion or near the limit: new ones, else the largest.

        Args:
            least: growth below which none is cut, bytes.
        """
        if self.memory < least:
            return []
        is_near_limit = 0 < self.limit * _OF_THE_LIMIT < self.resident
        if self.memory < _LEAST_RATIO * sum(self.received.values()) and not is_near_limit:
            return []
        if new := [each for each in self.new if self.received[each] >= _OF_A_NEW_ONE_BYTES]:
            return new
        most = max(self.received.values(), default=0)
        return [each for each, size in self.received.items() if 4 * size >= most and _MOST_RATIO * size >= self.memory]


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
        self._highest, self._rose_at = 0, -_RISING_S
        self._cut_at, self._to_trim = -_AFTER_A_CUT_S, tuple[float, ...]()
        self._normal, self._busy_s, self._idle_since, self._judged_idle = Normal(), 0.0, 0.0, 0.0
        self._statm, self._switch_s = -1, sys.getswitchinterval()

    def start(self) -> None:
        """Begins to watch, where the system can say what a connection received."""
        if hasattr(socket, "TCP_INFO") and Path("/proc/self/statm").exists():
            threading.Thread(target=self._run, name="memory-guard", daemon=True).start()

    def _run(self) -> None:
        self._statm = os.open("/proc/self/statm", os.O_RDONLY)
        while True:
            resident, now = self._resident(), time.monotonic()
            with suppress(OSError, RuntimeError):  # connections and tasks come and go
                self._look(resident, now)
            time.sleep(_ALERT_S if now - self._rose_at < _RISING_S else _IDLE_S)

    def _resident(self) -> int:
        return int(os.pread(self._statm, 64, 0).split()[1]) * _PAGE

    def _look(self, resident: int, now: float) -> None:
        if _Expected.to_take_in and not _Expected.still(now):
            # The table is there to stay. A message that anybody may send takes nothing in.
            _Expected.to_take_in, self._anchored = False, 0.0
        grown, age = resident - self._anchor, now - self._anchored
        is_quiet = grown < _ALERT_BYTES and age >= _ANCHOR_S
        if not self._anchored or is_quiet or age >= _FORGET_S:
            self._anchor, self._anchored = resident, now
            self._received = {each: size for each, (_, size) in _accepted().items()}
            self._highest = resident + _ALERT_BYTES
        elif resident > self._highest:
            self._highest, self._rose_at = resident + _STEP_BYTES, now
        if now - self._rose_at < _RISING_S:
            sys.setswitchinterval(_ALERT_SWITCH_S)
            if now - self._cut_at >= _SETTLE_S:
                self._judge(resident, grown, now)
        else:
            sys.setswitchinterval(self._switch_s)
        if self._to_trim and now - self._cut_at >= self._to_trim[0]:
            self._to_trim = self._to_trim[1:]
            gc.collect()  # requests that ended with an error are in cycles, with all their headers
            _give_back()
        if now - self._judged_idle >= _ANCHOR_S:
            self._judged_idle = now
            self._trim_when_idle(resident, now)

    def _trim_when_idle(self, resident: int, now: float) -> None:
        """Gives memory back once nothing has happened for a while, as nothing is delayed then."""
        total_s = time.process_time()
        busy_s, self._busy_s = total_s - self._busy_s, total_s
        if not self._normal.is_exceeded(resident) or busy_s > _IDLE_BUSY_S:
            self._idle_since = now
        elif now - self._idle_since >= _IDLE_FOR_S:
            if resident < _SMALL_BYTES:  # to collect garbage beside a table of ten thousand use cases takes 0.1 s
                gc.collect()
            _give_back()
            self._idle_since = now
            self._normal.gave_back(self._resident())

    def _judge(self, resident: int, grown: int, now: float) -> None:
        least = _AFTER_A_CUT_BYTES if now - self._cut_at < _AFTER_A_CUT_S else GROWTH_BYTES
        least = _EXPECTED_BYTES if _Expected.still(now) else least
        grown -= _TASK_BYTES * len(asyncio.all_tasks(self._loop)) if grown >= least else 0
        if grown < least:
            return
        open_now = _accepted()
        received = {each: size - self._received.get(each, 0) for each, (_, size) in open_now.items()}
        new = open_now.keys() - self._received.keys()
        culprits = Growth(grown, resident, self._limit, received, new).culprits(least)
        for each in culprits:
            peer = _cut(open_now[each][0])
            _log.warning("cut %s: %d KB received, memory grew by %d MB", peer, received[each] >> 10, grown >> 20)
        if culprits:
            self._cut_at, self._to_trim = now, _TRIM_AFTER_S
            self._anchor, self._anchored = resident, now


def _give_back() -> None:
    ctypes.CDLL(None).malloc_trim(0)


def _limit() -> int:
    """What the kernel holds this process to, bytes; 0 for nothing."""
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [soft // 2] if soft != resource.RLIM_INFINITY else []  # twice the ceiling, see lab.runtime.process
    with suppress(OSError, ValueError):
        limits.append(int(_CGROUP.read_text()))
    return min(limits, default=0)


def _accepted() -> dict[int, tuple[int, int]]:
    """Inode of each open connection that this process accepted → its descriptor, and the bytes read from it."""
    listening, found = set[int](), dict[int, tuple[int, int, int]]()
    for name in os.listdir(_DESCRIPTORS):  # noqa: PTH208 (ten times as fast)
        with suppress(OSError):
            match = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"{_DESCRIPTORS}/{name}"))  # noqa: PTH115 (likewise)
            if match is None:
                continue
            with socket.socket(fileno=os.dup(int(name))) as each:
                if each.family not in {socket.AF_INET, socket.AF_INET6} or each.type != socket.SOCK_STREAM:
                    continue
                port = each.getsockname()[1]
                if each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    listening.add(port)
                    continue
                about = each.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
                if about[0] == _TCP_ESTABLISHED:
                    received = struct.unpack_from("=Q", about, _BYTES_RECEIVED_AT)[0]
                    unread = struct.unpack("=i", fcntl.ioctl(each, termios.FIONREAD, bytes(4)))[0]
                    found[int(match[1])] = (int(name), received - unread, port)
    return {inode: (fd, received) for inode, (fd, received, port) in found.items() if port in listening}


def _cut(descriptor: int) -> str:
    """Resets a connection, and drops what it has received and nobody has read; returns its peer's address.

    A shutdown would leave what was received to be read: megabytes, each of which becomes hundreds.
    """
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        host, port = connection.getpeername()[:2]
        if ctypes.CDLL(None, use_errno=True).connect(connection.fileno(), _AF_UNSPEC, len(_AF_UNSPEC)):
            raise OSError(ctypes.get_errno(), errno.errorcode.get(ctypes.get_errno(), ""))
        return f"{host}:{port}"
