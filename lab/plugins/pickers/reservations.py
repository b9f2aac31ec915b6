"""What a gateway had reserved at each replica, a second time: by its log of picks and their ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lab.checkers.evidence import CLOCKS_NS

if TYPE_CHECKING:
    from lab.plugins.pickers.replicas import Entry


class Reserved:
    """Follows one chooser's picks; knows what may be reserved, as a limit of time is not exact to the nanosecond.

    Args:
        signal: of the spec.
    """

    def __init__(self, signal: Mapping[str, Any]) -> None:
        self._judges = signal.get("source") == "reserved"
        self._limit_ns = signal.get("release_ms", 0) * 1_000_000
        self._open: dict[int, Entry] = {}

    def took(self, pick: Entry) -> None:
        """Reserves."""
        self._open[pick["number"]] = pick

    def over(self, pick: Entry) -> None:
        """Releases."""
        self._open.pop(pick["number"], None)

    def objection(self, pick: Entry) -> str:
        """Returns what a pick had seen as reserved that cannot have been so, in words; or empty."""
        for each in pick["seen"] if self._judges else ():
            ages = [
                (pick["at_ns"] - other["at_ns"], other["asked"]["tokens"])
                for other in self._open.values()
                if other["picked"] == each["address"]
            ]
            slack_ns = CLOCKS_NS + pick["took_ns"]
            sure = [tokens for age_ns, tokens in ages if age_ns < self._limit_ns - slack_ns]
            most = [tokens for age_ns, tokens in ages if age_ns < self._limit_ns + slack_ns]
            if not (len(sure) <= each["waiting"] <= len(most) and sum(sure) <= each["tokens"] <= sum(most)):
                saw = f"{each['waiting']} slots and {each['tokens']} tokens reserved at {each['address']}"
                return f"saw {saw}, and {len(sure)} to {len(most)} and {sum(sure)} to {sum(most)} were"
        return ""
