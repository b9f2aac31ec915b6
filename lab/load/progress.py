"""How a run is going: one JSON line a second, for whoever started the driver."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import orjson

from lab.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Sequence

NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A driver's word, once a second and once at the end.

    Attributes:
        elapsed_s: since the start of the schedule.
        sent: requests so far; the next likewise.
        in_flight: sent and not yet done.
        p50_ms: of the requests done since the line before, from their intended times; 0 if there were none.
        p99_ms: likewise.
        remaining_s: of the schedule.
    """

    elapsed_s: float
    sent: int
    done: int
    ok: int
    failed: int
    in_flight: int
    p50_ms: float
    p99_ms: float
    remaining_s: float

    def to_line(self) -> str:
        """As one JSON object."""
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def from_line(cls, line: str) -> Progress:
        """The inverse of :meth:`to_line`.

        Raises:
            RunError: this is no progress line.
        """
        try:
            return cls(**orjson.loads(line))
        except (TypeError, orjson.JSONDecodeError) as error:
            raise RunError(f"a driver's line is no progress: {line.strip()!r}") from error


def percentile_ms(sorted_ns: Sequence[int], percent: int) -> float:
    """Nearest rank of sorted durations, milliseconds; 0 if there are none."""
    if not sorted_ns:
        return 0.0
    return sorted_ns[-(-len(sorted_ns) * percent // 100) - 1] / NS_PER_MS
