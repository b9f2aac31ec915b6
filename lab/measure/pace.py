"""How well the load driver kept its schedule. A late driver measures itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_NAMED = 3  # variants with a late driver that are named in words; the document has them all


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The pace of one variant in one cell, over all rounds: in its worst round where rounds differ.

    Rates are in requests per second; the delay is from the intended to the actual send time. The checker ``driver``
    says which rounds were late. Late measurements were ``repeated`` within their round.
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
        """Why figures measured at this pace do not count; empty if they do."""
        if self.kept_up:
            return ""
        return (
            f"the driver could not keep up in {self.late_rounds} round{'s' * (self.late_rounds > 1)}: of "
            f"{self.offered:g} rps it sent {self.achieved_rate:.1f}, {self.schedule_delay_p99_ms:.2f} ms late (p99)"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundPace:
    """The pace of one variant in one round; for the fields see :class:`Pace`."""

    offered: float
    achieved_rate: float
    schedule_delay_p99_ms: float
    late: bool
    repeated: int = 0


def pace_of(rounds: Sequence[RoundPace]) -> Pace:
    """The pace over a variant's rounds: that of its worst round."""
    return Pace(
        offered=rounds[0].offered,
        achieved_rate=min(each.achieved_rate for each in rounds),
        schedule_delay_p99_ms=max(each.schedule_delay_p99_ms for each in rounds),
        late_rounds=sum(each.late for each in rounds),
        repeated=sum(each.repeated for each in rounds),
    )


def in_words(paces: Mapping[str, Pace]) -> str:
    """The driver's pace in words, for readers of its figures; ``paces`` must not be empty."""
    achieved = min(pace.achieved_rate / pace.offered for pace in paces.values())
    delay_ms = max(pace.schedule_delay_p99_ms for pace in paces.values())
    late = [variant for variant, pace in paces.items() if not pace.kept_up]
    named = "; ".join(late[:_NAMED]) + (f"; and {len(late) - _NAMED} more" if len(late) > _NAMED else "")
    kept_up = f"it could not keep up in {named}" if late else "it kept up in every round"
    return (
        f"driver: achieved ≥ {achieved:.1%} of the offered rate, schedule delay p99 ≤ {delay_ms:.2f} ms, "
        f"in the worst round; {kept_up}"
    )
