"""What is done to a replica, kept until the control plane has been told, whose audit log it is for."""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING

from google.protobuf import timestamp_pb2

from lab.transport.audit import REFUSED, Act
from models.proto.control.v1 import acts_pb2, stub_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

_CONTROL = stub_pb2.DESCRIPTOR.services_by_name["StubControl"].full_name
METHODS = tuple(f"/{_CONTROL}/{each}" for each in ("SetBehaviour", "Reload"))
"""RPCs that change something, by their paths."""

# While nobody takes them, the latest; a replica that is on its own has its log besides.
_MOST = 1_000


class Journal:
    """A :class:`lab.transport.audit.Journal`.

    Attributes:
        on_act: called when there is something to tell.
    """

    def __init__(self) -> None:
        self.on_act: Callable[[], None] = lambda: None
        self._numbers = itertools.count(1)
        self._under_way: dict[int, Act] = {}
        self._unreported: deque[acts_pb2.Act] = deque(maxlen=_MOST)

    def begin(self, act: Act) -> int:
        """Before it is done; returns its number."""
        number = next(self._numbers)
        self._under_way[number] = act
        return number

    def end(self, number: int, status: str, reason: str) -> None:
        """What has become of it."""
        self._add(self._under_way.pop(number), status, reason)

    def refused(self, act: Act, reason: str) -> None:
        """A caller without permission was refused."""
        self._add(act, REFUSED, reason)

    def unreported(self) -> list[acts_pb2.Act]:
        """What the control plane has not been told; once it has, :meth:`forget` it."""
        return list(self._unreported)

    def forget(self, told: list[acts_pb2.Act]) -> None:
        """The control plane has been told these."""
        for each in told:
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
