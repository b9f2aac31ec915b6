"""What a replica keeps until it is asked: administrative acts, for the audit log; requests, as evidence."""

from __future__ import annotations

import itertools
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from struct import Struct
from time import time_ns
from typing import NamedTuple

import grpc
from google.protobuf import timestamp_pb2

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
_HEAD = Struct("<?IIII")  # is_copy, and the lengths of four texts


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
    """

    arrived_ns: int
    request_id: str
    routing_key: str
    tenant: str
    receipt: bytes
    is_copy: bool
    via: str


class ArrivalJournal:
    """The requests that a replica received and how each ended: evidence that no client, proxy or gateway can make up.

    Args:
        kept: number of requests to keep, about 150 bytes each; older ones are dropped. 0 registers none.

    Attributes:
        began_ns: since when it registers requests, Unix nanoseconds.
        wake: called with the next request, once; None if nobody waits for it.
    """

    def __init__(self, kept: int = KEPT_ARRIVALS) -> None:
        self._kept, self._count = kept, 0
        self.began_ns = time_ns()
        self.wake: Callable[[], None] | None = None
        # One string of bytes for each, which takes a third of an object's memory; times and statuses are beside it, as
        # rings.
        self._arrivals: deque[bytes] = deque(maxlen=kept)
        self._arrived_ns, self._ended_ns = array("q"), array("q")
        self._statuses = bytearray()

    def begin(
        self,
        request_id: str,
        routing_key: str,
        tenant: str,
        receipt: bytes,
        is_copy: bool,  # noqa: FBT001 (keywords would cost on every request)
        via: str,
    ) -> int:
        """Registers a request; returns its number."""
        if not self._kept:
            return -1
        number = self._count
        self._count = number + 1
        self._arrivals.append(_packed(request_id, routing_key, tenant, receipt, is_copy, via))
        if number < self._kept:
            self._arrived_ns.append(time_ns())
            self._ended_ns.append(0)
            self._statuses.append(UNDER_WAY)
        else:
            place = number % self._kept
            self._arrived_ns[place], self._ended_ns[place], self._statuses[place] = time_ns(), 0, UNDER_WAY
        if self.wake is not None:
            wake, self.wake = self.wake, None
            wake()
        return number

    def end(self, number: int, status: grpc.StatusCode) -> None:
        """Registers how a request ended."""
        if number >= self._count - self._kept:
            place = number % self._kept
            self._ended_ns[place], self._statuses[place] = time_ns(), _NUMBERS[status]

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
    def known_from_ns(self) -> int:
        """The time since when no request is missing, Unix nanoseconds."""
        return self.began_ns if self._count <= self._kept else self._arrived_ns[self._count % self._kept]

    def since(self, since_ns: int) -> list[tuple[Arrival, int, str]]:
        """Returns the requests that arrived from then on, with end and status: 0 and empty while one is under way."""
        first = self._count - len(self._arrivals)
        places = (number % self._kept for number in range(first, self._count))
        return [
            (unpacked(packed, self._arrived_ns[place]), self._ended_ns[place], status_name(self._statuses[place]))
            for packed, place in zip(self._arrivals, places, strict=True)
            if self._arrived_ns[place] >= since_ns
        ]


def _packed(request_id: str, routing_key: str, tenant: str, receipt: bytes, is_copy: bool, via: str) -> bytes:  # noqa: FBT001 (as above)
    texts = request_id.encode(), routing_key.encode(), tenant.encode(), via.encode()
    return b"".join((_HEAD.pack(is_copy, *map(len, texts)), *texts, receipt))


def status_name(number: int) -> str:
    """Returns the name of a status by its number; empty for :data:`UNDER_WAY`."""
    return _NAMES.get(number, "")


def unpacked(packed: bytes, arrived_ns: int) -> Arrival:
    """Returns a request as :meth:`ArrivalJournal.packed_from` gives it."""
    is_copy, id_bytes, key_bytes, tenant_bytes, via_bytes = _HEAD.unpack_from(packed)
    key_at = _HEAD.size + id_bytes
    tenant_at = key_at + key_bytes
    via_at = tenant_at + tenant_bytes
    receipt_at = via_at + via_bytes
    return Arrival(
        arrived_ns=arrived_ns,
        request_id=packed[_HEAD.size : key_at].decode(),
        routing_key=packed[key_at:tenant_at].decode(),
        tenant=packed[tenant_at:via_at].decode(),
        receipt=packed[receipt_at:],
        is_copy=is_copy,
        via=packed[via_at:receipt_at].decode(),
    )
