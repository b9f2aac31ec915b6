"""What the policy for stale readings lets a picker go by, a second time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.plugins.pickers.readers._reader import Seen

_NOT_REPORTED = {"running": 0, "kv_used": 0.0, "loras": (), "waiting_loras": (), "max_loras": 0, "tokens": 0}


def is_stale(each: Seen, signal: Mapping[str, Any]) -> bool:
    """Returns whether a reading is too old to go by, or was never made."""
    return signal["stale"] != "use" and not 0 <= each["age_ms"] < signal["stale_ms"]


def without_stale(seen: Sequence[Seen], signal: Mapping[str, Any]) -> Sequence[Seen]:
    """Returns the replicas that may be picked, each with the load to go by; ``signal`` is the spec's."""
    stale = [each for each in seen if is_stale(each, signal)]
    if signal["stale"] == "leave-out":
        return seen if len(stale) == len(seen) else [each for each in seen if each not in stale]
    return [{**each, **_NOT_REPORTED, "waiting": each["in_flight"]} if each in stale else each for each in seen]
