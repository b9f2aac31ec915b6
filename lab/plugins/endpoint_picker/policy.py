"""Policies that go by the endpoints alone: one function from a key's endpoints to an ordered list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.pickers import GATEWAY

if TYPE_CHECKING:
    from lab.pickers import Picker


@dataclass(slots=True, eq=False)
class Endpoint:
    """A replica, as the picker sees it, and as a :data:`lab.pickers.Pick` does.

    Attributes:
        address: ``ip:port``.
        in_flight: requests that were dispatched to it and have not been answered.
    """

    address: str
    in_flight: int = 0


Order = Callable[[Sequence[Endpoint]], Sequence[Endpoint]]
"""Orders the endpoints of one routing key for a request; there is one or more. The first gets it, the next ones are for
retries."""


def order_of(picker: Picker) -> Order:
    """The order of one routing key by a picker of the lab: its pick, then the others in turn from there."""
    pick = picker.at(GATEWAY)()

    def order(endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
        first = endpoints.index(pick(endpoints))
        return [*endpoints[first:], *endpoints[:first]]

    return order
