"""What the picker decides with: one function from a key's endpoints and a request's headers to an ordered list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.pickers import GATEWAY, Asked, Chooses, Seen
from lab.routing.headers import REQUEST_ID
from lab.routing.keys import TENANT_HEADER

if TYPE_CHECKING:
    from lab.pickers import Chooser, Pick, Picker

_SESSION = "x-session-id"


@dataclass(slots=True, eq=False)
class Endpoint:
    """A replica, as the picker sees it, and as a :data:`lab.pickers.Pick` does.

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
    configured = picker.at(GATEWAY)
    first_of = _chosen(configured.make()) if isinstance(configured, Chooses) else _picked(configured())

    def order(endpoints: Sequence[Endpoint], headers: Mapping[str, str]) -> Sequence[Endpoint]:
        first = first_of(endpoints, headers)
        return [*endpoints[first:], *endpoints[:first]]

    return order


def _picked(pick: Pick) -> Callable[[Sequence[Endpoint], Mapping[str, str]], int]:
    return lambda endpoints, _: endpoints.index(pick(endpoints))


def _chosen(chooser: Chooser) -> Callable[[Sequence[Endpoint], Mapping[str, str]], int]:
    """By what the headers say of a request; the signal is what this process has dispatched, which is never old."""

    def choose(endpoints: Sequence[Endpoint], headers: Mapping[str, str]) -> int:
        asked = Asked(headers.get(REQUEST_ID, ""), (), 0, headers.get(_SESSION, ""), "", headers.get(TENANT_HEADER, ""))
        return chooser.pick(
            asked, [Seen(each.address, each.in_flight, each.in_flight, 0, 0.0, 0) for each in endpoints]
        )

    return choose
