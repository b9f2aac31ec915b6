"""What a bench found: the measurements of each arm, and the claims that rest on them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.measure.compare import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A bound that a figure should keep.

    Attributes:
        text: what is claimed.
        figure: with its interval over the rounds.
        at_most: upper bound, None if there is none.
        at_least: lower bound, likewise.
    """

    text: str
    figure: Interval
    at_most: float | None = None
    at_least: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the estimate keeps the bound."""
        estimate = self.figure.estimate
        return (self.at_most is None or estimate <= self.at_most) and (
            self.at_least is None or estimate >= self.at_least
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """One bench.

    Attributes:
        name: as in the registry.
        unit: of the measurements.
        arms: arm → one measurement a round.
        claims: what follows.
        notes: what a reader must know to repeat it, or doubt it.
    """

    name: str
    unit: str
    arms: Mapping[str, Sequence[float]]
    claims: Sequence[Claim]
    notes: Sequence[str]

    def medians(self) -> dict[str, float]:
        """Arm → median over its rounds."""
        return {arm: median(values) for arm, values in self.arms.items()}

    def to_document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "name": self.name,
            "unit": self.unit,
            "rounds": {arm: list(values) for arm, values in self.arms.items()},
            "medians": self.medians(),
            "claims": [{**asdict(claim), "holds": claim.holds} for claim in self.claims],
            "notes": list(self.notes),
        }
