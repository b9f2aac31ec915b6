"""What the picker decides with: one function from a key's endpoints and a request's headers to an ordered list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.pickers import GATEWAY

if TYPE_CHECKING:
    from lab.pickers import Picker


@dataclass(slots=True, eq=False)
class Endpoint:
    """A replica, as the picker sees it; see :class:`lab.pickers.Pickable`.

    Attributes:
        address: ``ip:port``.
        in_flight: requests that were dispatched to it and have not been answered.
    """

    address: str
    in_flight: int = 0


Order = Callable[[Sequence[Endpoint], Mapping[str, str]], Sequence[Endpoint]]
"""Orders the endpoints of one routing key for a request with these headers; there is one or more. The first gets it,
the next ones are for retries."""


def order_of(picker: Picker) -> Order:
    """The order of one routing key by a picker of the lab: its pick, then the others in turn from there."""
    pick = picker.at(GATEWAY)()

    def order(endpoints: Sequence[Endpoint], headers: Mapping[str, str]) -> Sequence[Endpoint]:
        del headers
        first = endpoints.index(pick(endpoints))
        return [*endpoints[first:], *endpoints[:first]]

    return order
