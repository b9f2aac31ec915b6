"""A replica's arrivals in a file of its own, which is still there when the replica is not.

The file is appended to. It has a part for each process of the replica, of rows of five kinds, each with its length. A
process that is killed loses what arrived in its last :data:`FLUSH_S`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from io import FileIO
from pathlib import Path
from struct import Struct
from threading import Event, Thread
from typing import NamedTuple

from lab.clock import lab_time_ns
from models.stub.journal import UNDER_WAY, Arrival, ArrivalJournal, status_name, unpacked

FLUSH_S = 0.2
"""Longest time from an arrival to its flush, seconds."""

IDLE_S = 5.0
"""Interval of the flushes of a replica that receives nothing, seconds: a lab may have 2,000 of them."""

MOST_BYTES = 32 * 1024 * 1024
"""Size at which a file becomes the older one, of which there is one."""

_OLDER = ".1"
_BEGIN = b"\xffarrives"  # before each part; no text has the first byte
_HEAD = Struct("<BI")  # kind, bytes after this head
_TIMES = Struct("<qq")
_ARRIVAL = Struct("<Qq")  # number, arrived
_END = Struct("<QqB")  # number, ended, status; what a copy was answered follows
_TIME = Struct("<q")
_NUMBER = Struct("<H")
_ARRIVED, _ENDED, _KNOWN, _CLOSED, _FORM = range(5)

_log = logging.getLogger(__name__)


class Received(NamedTuple):
    """A request in a replica's file, with the names of its headers, blank between.

    End and status are 0 and empty while its end is not known.
    """

    arrival: Arrival
    headers: str
    ended_ns: int
    status: str


class Lifetime(NamedTuple):
    """What one process of a replica has written. Times are Unix nanoseconds.

    Attributes:
        began_ns: when the process began.
        known_from_ns: since when nothing is missing; later than ``began_ns`` if what was first was dropped.
        until_ns: until when nothing is missing.
        closed: whether it ended by itself and had received nothing later.
    """

    began_ns: int
    known_from_ns: int
    until_ns: int
    closed: bool
    received: list[Received]


class JournalFile:
    """Appends what a journal registers to a file.

    Args:
        path: of the file; earlier processes of the replica may have written to it.
        journal: the arrivals.
    """

    def __init__(self, path: Path, journal: ArrivalJournal) -> None:
        self._path, self._journal = path, journal
        self._next = self._forms = 0
        self._under_way: list[int] = []
        self._waiting = b""
        self._known_ns = journal.began_ns
        self._file: FileIO | None = None
        self._fails = False
        self._ends, self._arrived = Event(), Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Flushes periodically while the context lasts, and says at its end that the process ended by itself."""
        # In a thread: a disk that does not answer must not keep requests waiting.
        thread = Thread(target=self._run, name="journal-file", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ends.set()
            self._arrived.set()
            thread.join()
            self.flush(closed=True)
            self.close()

    def _run(self) -> None:
        is_due = True
        while not self._ends.wait(0.0 if is_due else FLUSH_S):
            received = self._next
            self.flush()
            # Requests that follow one another need not wake this thread; only after a flush without any does one.
            is_due = self._next == received and not self._under_way and not self._arrives_within(IDLE_S)

    def _arrives_within(self, timeout_s: float) -> bool:
        self._arrived.clear()
        self._journal.wake = self._arrived.set
        return self._journal.count > self._next or self._ends.is_set() or self._arrived.wait(timeout_s)

    def flush(self, *, closed: bool = False) -> None:
        """Appends what is new. What a full disk does not take follows later, or is missing in the file."""
        with self._journal.lock:
            now_ns = lab_time_ns()
            rows = [*self._new_forms(), *self._ends_of_requests(), *self._arrivals()]
        rows.append(_row(_CLOSED if closed else _KNOWN, _TIME.pack(now_ns)))
        try:
            file = self._opened()
            self._waiting += b"".join(rows)
            self._waiting = self._waiting[file.write(self._waiting) or 0 :]
            self._fails = False
        except OSError as failed:
            if not self._fails:
                _log.warning("%s: %s: what was received is kept in memory alone", self._path, failed)
            self._fails = True
            self.close()
        self._known_ns = now_ns  # what could not be written is missing, and the next part says so

    def _opened(self) -> FileIO:
        if self._file is not None and not self._waiting and self._file.tell() > MOST_BYTES:
            self.close()
            self._path.replace(self._path.with_name(self._path.name + _OLDER))
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab", buffering=0)
            self._forms = 0  # each part has all, as earlier ones may go
            self._waiting = b"".join((_BEGIN, _TIMES.pack(self._journal.began_ns, self._known_ns), *self._new_forms()))
        return self._file

    def close(self) -> None:
        """Closes the file; the next flush opens it again."""
        if self._file is not None:
            self._file.close()
        self._file, self._waiting = None, b""

    def _new_forms(self) -> Iterator[bytes]:
        first, self._forms = self._forms, len(self._journal.forms)
        for number in range(first, self._forms):
            yield _row(_FORM, _NUMBER.pack(number) + self._journal.forms[number].encode())

    def _arrivals(self) -> Iterator[bytes]:
        for number, arrived_ns, packed in self._journal.packed_from(self._next):
            self._next = number + 1
            yield _row(_ARRIVED, _ARRIVAL.pack(number, arrived_ns) + packed)
            if (end := self._end(number)) is not None:
                yield end
            else:
                self._under_way.append(number)

    def _ends_of_requests(self) -> Iterator[bytes]:
        left = []
        for number in self._under_way:
            if (end := self._end(number)) is not None:
                yield end
            else:
                left.append(number)
        self._under_way = left

    def _end(self, number: int) -> bytes | None:
        """The record of a request's end; None while it is under way."""
        ended_ns, status = self._journal.end_of(number)
        if status == UNDER_WAY:
            return None
        return _row(_ENDED, _END.pack(number, ended_ns, status) + self._journal.answer_to(number).encode())


def _row(kind: int, payload: bytes) -> bytes:
    return _HEAD.pack(kind, len(payload)) + payload


def read_lifetimes(path: Path, since_ns: int) -> list[Lifetime]:
    """Returns what the processes of a replica have written, the first one first; without arrivals before a time.

    A part whose last row is torn is read up to that; a file that is missing
    holds nothing.
    """
    found: list[Lifetime] = []
    places: dict[int, int] = {}  # of requests, by number
    forms: dict[int, str] = {}
    for began_ns, known_from_ns, rows in (*_parts(path.with_name(path.name + _OLDER)), *_parts(path)):
        if not (found and found[-1].began_ns == began_ns and known_from_ns <= found[-1].until_ns):
            found.append(Lifetime(began_ns, known_from_ns, known_from_ns, False, []))  # noqa: FBT003 (values in order)
            places.clear()
            forms.clear()
        received = found[-1].received
        for kind, content in _rows(rows):
            if kind == _ARRIVED:
                number, arrived_ns = _ARRIVAL.unpack_from(content)
                if arrived_ns >= since_ns:
                    places[number] = len(received)
                    arrival = unpacked(content[_ARRIVAL.size :], arrived_ns)
                    received.append(Received(arrival, forms.get(arrival.form, ""), 0, ""))
            elif kind == _ENDED:
                number, ended_ns, status = _END.unpack_from(content)
                if (place := places.get(number)) is not None:
                    was, headers, *_ = received[place]
                    arrival = was._replace(answer=content[_END.size :].decode())
                    received[place] = Received(arrival, headers, ended_ns, status_name(status))
            elif kind == _FORM:
                [number] = _NUMBER.unpack_from(content)
                forms[number] = content[_NUMBER.size :].decode()
            else:
                [until_ns] = _TIME.unpack(content)
                found[-1] = found[-1]._replace(until_ns=until_ns, closed=kind == _CLOSED)
    return found


def _parts(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yields when a process began, since when the part has all that it received, and the part's rows."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    for part in content.split(_BEGIN)[1:]:
        if len(part) >= _TIMES.size:
            yield *_TIMES.unpack_from(part), part[_TIMES.size :]


def _rows(part: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEAD.size <= len(part):
        kind, length = _HEAD.unpack_from(part, at)
        at += _HEAD.size
        if at + length > len(part):
            return  # torn
        yield kind, part[at : at + length]
        at += length
