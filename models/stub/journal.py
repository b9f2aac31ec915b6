"""What a replica keeps until it is asked: administrative acts, for the audit log; requests, as evidence."""

from __future__ import annotations

import itertools
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, pairwise
from operator import itemgetter
from struct import Struct
from threading import Lock
from typing import Any, NamedTuple
from zlib import crc32

import grpc
from google.protobuf import timestamp_pb2

from lab.clock import lab_time_ns
from lab.transport.rpc_logs import REFUSED, Act
from models.proto.control.v1 import acts_pb2, stub_pb2

_CONTROL = stub_pb2.DESCRIPTOR.services_by_name["StubControl"].full_name
METHODS = tuple(f"/{_CONTROL}/{each}" for each in ("SetBehaviour", "Reload"))
"""Paths of the RPCs that change something."""

# Keeps the latest while no control plane takes them; the replica's log has all.
_MOST = 1_000
KEPT_ARRIVALS = 200_000

_NUMBERS: dict[grpc.StatusCode, int] = {status: status.value[0] for status in grpc.StatusCode}
_NAMES = {number: status.name for status, number in _NUMBERS.items()}
UNDER_WAY = 255
"""In place of a status, of a request that has not ended."""
_name = itemgetter(0)
_MOST_FORMS, _MOST_HEADERS = 256, 64
_UNKNOWN_FORM = 0
NO_DEADLINE = -1
# Whether it is a copy, the lengths of five texts, the time left in milliseconds, and the form.
_HEAD = Struct("<?IIIIIqH")
_DIGESTS = [Struct(f">{count}I") for count in range(_MOST_HEADERS + 1)]


class Journal:
    """Implements :class:`lab.transport.rpc_logs.Journal`.

    Attributes:
        on_act: called when there is an act to report.
    """

    def __init__(self) -> None:
        self.on_act: Callable[[], None] = lambda: None
        self._numbers = itertools.count(1)
        self._under_way: dict[int, Act] = {}
        self._unreported: deque[acts_pb2.Act] = deque(maxlen=_MOST)

    def begin(self, act: Act) -> int:
        """Registers an act before it is carried out; returns its number."""
        number = next(self._numbers)
        self._under_way[number] = act
        return number

    def end(self, number: int, status: str, reason: str) -> None:
        """Registers the outcome of an act."""
        self._add(self._under_way.pop(number), status, reason)

    def refused(self, act: Act, reason: str) -> None:
        """Registers an act that was refused."""
        self._add(act, REFUSED, reason)

    def unreported(self) -> list[acts_pb2.Act]:
        """Acts to report; call :meth:`forget` once they are."""
        return list(self._unreported)

    def forget(self, reported: list[acts_pb2.Act]) -> None:
        """Drops acts that were reported."""
        for each in reported:
            if self._unreported and self._unreported[0] is each:
                self._unreported.popleft()

    def _add(self, act: Act, status: str, reason: str) -> None:
        seconds, nanos = divmod(act.at_ns, 1_000_000_000)
        at = timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos)
        self._unreported.append(
            acts_pb2.Act(
                at=at, who=act.who, unit=act.unit, what=act.what, detail=act.detail, status=status, reason=reason
            )
        )
        self.on_act()


class Arrival(NamedTuple):
    """A request that a replica received, whether it served it or refused it.

    Attributes:
        arrived_ns: Unix nanoseconds.
        routing_key: of the header; without one, of the version in the body.
        tenant: in the body, empty if it has none.
        receipt: see :mod:`models.stub.receipts`.
        is_copy: whether it is a shadow copy.
        via: header of the units that it has passed.
        remaining_ms: time left until its deadline, milliseconds; :data:`NO_DEADLINE` if it has none.
        form: number of the names of its headers in :attr:`ArrivalJournal.forms`.
        values: digests of their values in the same order, CRC-32, 4 bytes each.
        answer: digest over the items that a copy was answered with; empty of other requests.
    """

    arrived_ns: int
    request_id: str
    routing_key: str
    tenant: str
    receipt: bytes
    is_copy: bool
    via: str
    remaining_ms: int
    form: int
    values: bytes
    answer: str = ""


class _Form(NamedTuple):
    """The latest headers of one form: its number, their values, and digests of these."""

    number: int
    values: list[Any]
    digests: list[int]


class ArrivalJournal:
    """The requests that a replica received and how each ended: evidence that no client, proxy or gateway can make up.

    Args:
        kept: number of requests to keep, about 250 bytes each; older ones are dropped. 0 registers none.

    Attributes:
        began_ns: since when it registers requests, Unix nanoseconds.
        forms: names of requests' headers, blank between; the first stands for all that are too many to keep.
        wake: called with the next request, once; None if nobody waits for it.
        lock: hold it to read in another thread: all that began or ended before it was taken is there.
    """

    def __init__(self, kept: int = KEPT_ARRIVALS) -> None:
        self._kept, self._count = kept, 0
        self.began_ns = lab_time_ns()
        self.forms = [""]
        self._latest: dict[tuple[str, ...], _Form] = {}
        self.wake: Callable[[], None] | None = None
        self.lock = Lock()
        # One string of bytes for each, which takes a third of an object's memory; times and statuses are beside it, as
        # rings.
        self._arrivals: deque[bytes] = deque(maxlen=kept)
        self._arrived_ns, self._ended_ns = array("q"), array("q")
        self._statuses = bytearray()
        self._answers: dict[int, str] = {}  # of copies, by number

    def begin(
        self,
        request_id: str,
        routing_key: str,
        tenant: str,
        receipt: bytes,
        is_copy: bool,  # noqa: FBT001 (keywords would cost on every request)
        via: str,
        remaining_s: float | None,
        headers: Iterable[tuple[str, Any]],
    ) -> int:
        """Registers a request; returns its number."""
        if not self._kept:
            return -1
        remaining_ms = NO_DEADLINE if remaining_s is None else round(remaining_s * 1_000)
        texts = request_id.encode(), routing_key.encode(), tenant.encode(), via.encode()
        form, values = self._digested(headers)
        head = _HEAD.pack(is_copy, *map(len, texts), len(receipt), remaining_ms, form)
        packed = b"".join((head, *texts, receipt, values))
        with self.lock:
            number = self._count
            self._count = number + 1
            self._arrivals.append(packed)
            if number < self._kept:
                self._arrived_ns.append(lab_time_ns())
                self._ended_ns.append(0)
                self._statuses.append(UNDER_WAY)
            else:
                place = number % self._kept
                self._arrived_ns[place], self._ended_ns[place], self._statuses[place] = lab_time_ns(), 0, UNDER_WAY
        if self.wake is not None:
            wake, self.wake = self.wake, None
            wake()
        return number

    def _digested(self, headers: Iterable[tuple[str, Any]]) -> tuple[int, bytes]:
        """The form of these headers, and a digest of each value: CRC-32, 4 bytes."""
        in_order = sorted(headers, key=_name)  # proxies in Go send them in another order each time
        names = tuple([name for name, _ in in_order])
        form = self._latest.get(names)
        if form is None:
            if len(self.forms) >= _MOST_FORMS or len(names) > _MOST_HEADERS:
                return _UNKNOWN_FORM, b""
            form = self._latest[names] = _Form(len(self.forms), [b""] * len(names), [0] * len(names))
            self.forms.append(" ".join(names))
        number, latest, digests = form
        for place, (_, value) in enumerate(in_order):
            if value != latest[place]:  # most are the same each time
                latest[place] = value
                # Over REST, a header may have bytes that are no UTF-8.
                digests[place] = crc32(value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass"))
        return number, _DIGESTS[len(digests)].pack(*digests)

    def answered(self, number: int, answer: str) -> None:
        """Registers what a copy is answered, before its end."""
        self._answers[number] = answer
        if (oldest := next(iter(self._answers))) < self._count - self._kept:
            del self._answers[oldest]

    def answer_to(self, number: int) -> str:
        """Returns what a copy was answered; empty of another request."""
        return self._answers.get(number, "")

    def end(self, number: int, status: grpc.StatusCode) -> None:
        """Registers how a request ended."""
        if number >= self._count - self._kept:
            place = number % self._kept
            with self.lock:
                self._ended_ns[place], self._statuses[place] = lab_time_ns(), _NUMBERS[status]

    def end_of(self, number: int) -> tuple[int, int]:
        """Returns when a request ended, and the number of its status: 0 and :data:`UNDER_WAY` while it has not."""
        place = number % self._kept
        return self._ended_ns[place], self._statuses[place]

    def packed_from(self, number: int) -> Iterator[tuple[int, int, bytes]]:
        """Yields number, time of arrival and content of the requests from a number on, as far as they are kept."""
        first = max(number, self._count - len(self._arrivals))
        # From the end: a deque is slow in its middle.
        latest = list(itertools.islice(reversed(self._arrivals), self._count - first))
        for at, packed in enumerate(reversed(latest), start=first):
            yield at, self._arrived_ns[at % self._kept], packed

    @property
    def count(self) -> int:
        """Number of requests that began so far."""
        return self._count

    @property
    def known_from_ns(self) -> int:
        """The time since when no request is missing, Unix nanoseconds."""
        return self.began_ns if self._count <= self._kept else self._arrived_ns[self._count % self._kept]

    def since(self, since_ns: int) -> list[tuple[Arrival, int, str]]:
        """Returns the requests that arrived from then on, with end and status: 0 and empty while one is under way."""
        first = self._count - len(self._arrivals)
        return [
            (
                unpacked(packed, self._arrived_ns[place], self.answer_to(number)),
                self._ended_ns[place],
                status_name(self._statuses[place]),
            )
            for number, packed in enumerate(self._arrivals, start=first)
            if self._arrived_ns[place := number % self._kept] >= since_ns
        ]


def status_name(number: int) -> str:
    """Returns the name of a status by its number; empty for :data:`UNDER_WAY`."""
    return _NAMES.get(number, "")


def unpacked(packed: bytes, arrived_ns: int, answer: str = "") -> Arrival:
    """Returns a request as :meth:`ArrivalJournal.packed_from` gives it."""
    is_copy, *lengths, remaining_ms, form = _HEAD.unpack_from(packed)
    ends = list(accumulate(lengths, initial=_HEAD.size))
    request_id, routing_key, tenant, via, receipt = (packed[start:end] for start, end in pairwise(ends))
    return Arrival(
        arrived_ns=arrived_ns,
        request_id=request_id.decode(),
        routing_key=routing_key.decode(),
        tenant=tenant.decode(),
        receipt=receipt,
        is_copy=is_copy,
        via=via.decode(),
        remaining_ms=remaining_ms,
        form=form,
        values=packed[ends[-1] :],
        answer=answer,
    )
