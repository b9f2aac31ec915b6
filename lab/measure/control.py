"""The A/A control: the same arm measured twice in every comparison. A tool that finds a difference there is broken.

How sure the control is counts for the whole bench, not for one interval of it. A bench that compares at six sizes and
rates has six such intervals; were each at 95 %, one of them would miss zero in every fourth run of a faultless tool. So
the share of false alarms is divided among them (Bonferroni), and it is 2 % a run, because an alarm takes the run's
claims away. At a confidence so near to certainty, and with ten rounds, the bootstrap's interval is too narrow: in
simulations it gave four times the false alarms that it promises. So the control has the exact one of the sign test.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.measure.compare import Interval, exact_median

if TYPE_CHECKING:
    from collections.abc import Sequence

FALSE_ALARMS = 0.02
"""Share of runs in which a faultless tool may be called broken, over all controls of the run together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One arm against itself.

    Attributes:
        text: which arm, and where.
        difference: the second measurement minus the first, in the bench's unit, with its interval over the rounds.
    """

    text: str
    difference: Interval

    @property
    def agrees(self) -> bool:
        """Whether there may be no difference, which is the truth."""
        return self.difference.low <= 0 <= self.difference.high

    @property
    def can_tell(self) -> bool:
        """Whether there were rounds enough to find a difference at all."""
        return math.isfinite(self.difference.low)

    @property
    def verdict(self) -> str:
        """In words; loud ones if the tool is broken."""
        if not self.can_tell:
            return "too few rounds to tell"
        return "agrees" if self.agrees else "DISAGREES: THE TOOL SEES WHAT IS NOT THERE"

    @property
    def doubt(self) -> str:
        """Why the figures beside it show nothing; empty if there is no reason."""
        if not self.can_tell:
            return f"too few rounds for the A/A control to tell anything: {self.difference.rounds}"
        return "" if self.agrees else f"the A/A control disagrees: {self.text}"


def control(text: str, first: Sequence[float], again: Sequence[float], *, among: int = 1) -> Control:
    """Holds one arm against itself.

    Args:
        text: which arm, and where.
        first: one measurement a round.
        again: the same arm once more in the same rounds.
        among: how many controls the bench has in one run.

    Raises:
        ValueError: no rounds, or not the same number of them.
    """
    differences = [second - one for one, second in zip(first, again, strict=True)]
    return Control(text=text, difference=exact_median(differences, confidence=1 - FALSE_ALARMS / among))
