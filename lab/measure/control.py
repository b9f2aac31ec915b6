"""The A/A control: every comparison measures one variant twice. A tool that finds a difference there is broken.

The control's confidence holds for the whole bench, not for each interval. A bench that compares at six sizes and rates
has six such intervals; at 95 % each, one of them would miss zero in every fourth run of a correct tool. So the share of
false alarms is divided among them (Bonferroni). It is 2 % for each run, because an alarm voids the run's claims. At
such a confidence and with ten rounds the bootstrap's interval is too narrow: in simulations it gave four times the
stated false alarms. So the control uses the exact interval of the sign test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from lab.measure.compare import Interval, exact_median

FALSE_ALARMS = 0.02
"""Share of runs in which a correct tool is reported as broken, over all controls of the run together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One variant against itself: the second measurement minus the first, in the bench's unit."""

    text: str
    difference: Interval

    @property
    def agrees(self) -> bool:
        """Whether the interval holds 0, the true difference."""
        return self.difference.low <= 0 <= self.difference.high

    @property
    def can_tell(self) -> bool:
        """Whether the rounds suffice to find any difference."""
        return math.isfinite(self.difference.low)

    @property
    def verdict(self) -> str:
        """The verdict in words, in capitals if the tool is broken."""
        if not self.can_tell:
            return "too few rounds to tell"
        return "agrees" if self.agrees else "DISAGREES: THE TOOL FINDS A DIFFERENCE THAT DOES NOT EXIST"

    @property
    def doubt(self) -> str:
        """Why the bench's figures do not count; empty if they do."""
        if not self.can_tell:
            return f"{self.difference.rounds} rounds are too few for the A/A control to decide"
        return "" if self.agrees else f"the A/A control disagrees: {self.text}"


def rounds_to_tell(among: int = 1) -> int:
    """The fewest rounds in which one of so many controls can find any difference: it has the same sign in each."""
    return math.ceil(math.log2(2 * among / FALSE_ALARMS))


def control(text: str, first: Sequence[float], again: Sequence[float], *, among: int = 1) -> Control:
    """Compares one variant with itself, measured twice in the same rounds; ``among`` is the bench's number of controls.

    Raises:
        ValueError: no rounds, or not the same number of them.
    """
    differences = [second - one for one, second in zip(first, again, strict=True)]
    return Control(text=text, difference=exact_median(differences, confidence=1 - FALSE_ALARMS / among))


def control_of_rounds(samples: Mapping[str, Sequence[float]]) -> Control:
    """Compares every even round with the odd round before it: each measured the same variants, so nothing may differ.

    This is the control of a bench that measures no variant twice. A round's figure is the median, over all variants
    that vary, of the deviation from the variant's own median. It takes twice :func:`rounds_to_tell`.
    """
    count = max(map(len, samples.values()), default=0)
    varying = [found for each in samples.values() if len(each) == count and any(found := _deviations(each))]
    figures = [median(each) for each in zip(*varying, strict=True)] if varying else [0.0] * count
    odd, even = (figures[: count - 1 : 2], figures[1::2]) if count > 1 else ([math.nan], [math.nan])
    return control("even rounds − odd rounds, as a share of each variant's median", odd, even)


def _deviations(values: Sequence[float]) -> list[float]:
    """As a share of the median; 0 where there is none, and of a round without a value."""
    finite = [each for each in values if math.isfinite(each)]
    middle = median(finite) if finite else 0.0
    return [each / middle - 1 if middle > 0 and math.isfinite(each) else 0.0 for each in values]
