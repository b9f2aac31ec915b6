"""How well the driver kept to its times. A late driver measures itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_NAMED = 3  # of the arms in which a driver was late; who wants to know of all finds them in the document


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Of one arm in one cell, over all rounds.

    Attributes:
        offered: planned rate, requests per second.
        achieved_rate: the lowest of any round, requests per second.
        schedule_delay_p99_ms: of a round, the highest of any; from the intended time to the sending.
        late_rounds: rounds in which the driver could not keep up, by the word of the ``driver`` checker.
        repeated: measurements that were thrown away for this reason, and made again within the round.
    """

    offered: float
    achieved_rate: float
    schedule_delay_p99_ms: float
    late_rounds: int
    repeated: int = 0

    @property
    def kept_up(self) -> bool:
        """Whether the driver kept up in every round."""
        return not self.late_rounds

    @property
    def doubt(self) -> str:
        """Why a figure that rests on this shows nothing; empty if there is no reason."""
        if self.kept_up:
            return ""
        return (
            f"the driver could not keep up in {self.late_rounds} round{'s' * (self.late_rounds > 1)}: of "
            f"{self.offered:g} rps it sent {self.achieved_rate:.1f}, {self.schedule_delay_p99_ms:.2f} ms late (p99)"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundPace:
    """Of one arm in one round; for the fields see :class:`Pace`."""

    offered: float
    achieved_rate: float
    schedule_delay_p99_ms: float
    late: bool
    repeated: int = 0


def pace_of(rounds: Sequence[RoundPace]) -> Pace:
    """Puts an arm's rounds together: a driver is as good as its worst round."""
    return Pace(
        offered=rounds[0].offered,
        achieved_rate=min(each.achieved_rate for each in rounds),
        schedule_delay_p99_ms=max(each.schedule_delay_p99_ms for each in rounds),
        late_rounds=sum(each.late for each in rounds),
        repeated=sum(each.repeated for each in rounds),
    )


def in_words(paces: Mapping[str, Pace]) -> str:
    """What a reader of figures must know of the driver that made them; at least one pace."""
    achieved = min(pace.achieved_rate / pace.offered for pace in paces.values())
    delay_ms = max(pace.schedule_delay_p99_ms for pace in paces.values())
    late = [arm for arm, pace in paces.items() if not pace.kept_up]
    named = "; ".join(late[:_NAMED]) + (f"; and {len(late) - _NAMED} more" if len(late) > _NAMED else "")
    kept_up = f"it could not keep up in {named}" if late else "it kept up in every round"
    return (
        f"driver: achieved ≥ {achieved:.1%} of the offered rate, schedule delay p99 ≤ {delay_ms:.2f} ms, "
        f"in the worst round; {kept_up}"
    )
