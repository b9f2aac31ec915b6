"""What a replica keeps until it is asked: administrative acts, for the audit log, and shadow copies, as evidence."""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING

from google.protobuf import timestamp_pb2

from lab.transport.rpc_logs import REFUSED, Act
from models.proto.control.v1 import acts_pb2, stub_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

_CONTROL = stub_pb2.DESCRIPTOR.services_by_name["StubControl"].full_name
METHODS = tuple(f"/{_CONTROL}/{each}" for each in ("SetBehaviour", "Reload"))
"""Paths of the RPCs that change something."""

# Keeps the latest while no control plane takes them; the replica's log has all.
_MOST = 1_000
KEPT_COPIES = 100_000


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


class ShadowJournal:
    """Ids and receipts of the shadow copies that a replica received, by routing key: evidence that none was lost.

    Args:
        kept: copies kept per model version; older ones are dropped.
    """

    def __init__(self, kept: int = KEPT_COPIES) -> None:
        self._kept = kept
        self._copies: dict[str, deque[tuple[str, bytes]]] = {}
        self._counts: dict[str, int] = {}

    @property
    def count(self) -> int:
        """Number of all copies received."""
        return sum(self._counts.values())

    def add(self, routing_key: str, request_id: str, receipt: bytes = b"") -> None:
        """Registers a copy."""
        copies = self._copies.get(routing_key)
        if copies is None:
            copies = self._copies[routing_key] = deque(maxlen=self._kept)
            self._counts[routing_key] = 0
        copies.append((request_id, receipt))
        self._counts[routing_key] += 1

    def listed(self) -> dict[str, tuple[list[tuple[str, bytes]], int]]:
        """Routing key → copies, oldest first, and the number of older ones that were dropped."""
        return {key: (list(copies), self._counts[key] - len(copies)) for key, copies in self._copies.items()}
