"""What a bench found: the measurements of each arm, and the claims that rest on them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.measure.compare import Interval
    from lab.measure.control import Control
    from lab.measure.pace import Pace


class State(StrEnum):
    """What became of a claim."""

    HOLDS = "holds"
    FAILS = "does not hold"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A bound that a figure should keep.

    Attributes:
        text: what is claimed.
        figure: with its interval over the rounds.
        at_most: upper bound, None if there is none.
        at_least: lower bound, likewise.
        doubts: why the figure shows nothing, be it good or bad: a driver that was late, a control that disagrees.
    """

    text: str
    figure: Interval
    at_most: float | None = None
    at_least: float | None = None
    doubts: Sequence[str] = ()

    @property
    def state(self) -> State:
        """Whether the estimate keeps the bound; unknown if there are doubts."""
        if self.doubts:
            return State.UNKNOWN
        estimate = self.figure.estimate
        keeps = (self.at_most is None or estimate <= self.at_most) and (
            self.at_least is None or estimate >= self.at_least
        )
        return State.HOLDS if keeps else State.FAILS

    @property
    def holds(self) -> bool:
        """Whether the estimate keeps the bound, and nothing speaks against the estimate."""
        return self.state is State.HOLDS


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """One bench.

    Attributes:
        name: as in the registry.
        unit: of the measurements.
        arms: arm → one measurement a round.
        claims: what follows.
        notes: what a reader must know to repeat it, or doubt it.
        controls: arms that were measured twice.
        paces: arm → how well the driver kept to its times there; for benches that drive at a rate.
    """

    name: str
    unit: str
    arms: Mapping[str, Sequence[float]]
    claims: Sequence[Claim]
    notes: Sequence[str]
    controls: Sequence[Control] = ()
    paces: Mapping[str, Pace] = field(default_factory=dict)

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
            "claims": [{**asdict(claim), "state": str(claim.state), "holds": claim.holds} for claim in self.claims],
            "controls": [{**asdict(control), "agrees": control.agrees} for control in self.controls],
            "paces": {arm: {**asdict(pace), "kept_up": pace.kept_up} for arm, pace in self.paces.items()},
            "notes": list(self.notes),
        }


def exit_status(results: Sequence[BenchResult]) -> int:
    """As for verdicts: 0 if every claim holds, 1 if one does not, 2 if one is unknown or a control disagrees."""
    states = {claim.state for result in results for claim in result.claims}
    if State.FAILS in states:
        return 1
    agree = not any(control.doubt for result in results for control in result.controls)
    return 0 if agree and State.UNKNOWN not in states else 2
