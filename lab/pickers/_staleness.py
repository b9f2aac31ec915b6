"""What a picker sees of replicas whose reading of load is too old."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from lab.pickers._picker import Seen

Stale = Literal["use", "leave-out", "in-flight"]
"""``use``: as if it were new. ``leave-out``: not that replica, while another has a reading that is new enough.
``in-flight``: the attempts in flight to it, in place of what it reported."""


def offered(seen: Sequence[Seen], stale: Stale, stale_ms: float) -> Sequence[Seen]:
    """The replicas among which to pick, each with the load to go by.

    Args:
        seen: all of them, as they were read.
        stale: policy for readings that are too old.
        stale_ms: age from which a reading is too old; one that there never was is.
    """
    if stale == "use":
        return seen
    fresh = [0 <= each.age_ms < stale_ms for each in seen]
    if all(fresh):
        return seen
    if stale == "leave-out":
        return [each for each, is_fresh in zip(seen, fresh, strict=True) if is_fresh] or seen
    unread: Any = {"running": 0, "kv_used": 0.0, "loras": (), "waiting_loras": (), "max_loras": 0, "tokens": 0}
    return [
        each if is_fresh else each._replace(waiting=each.in_flight, **unread)
        for each, is_fresh in zip(seen, fresh, strict=True)
    ]
