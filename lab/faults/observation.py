"""Evidence of a fault's effect, from units, the control plane and probes. The injection itself is not evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Visible(StrEnum):
    """Whether a fault has a visible effect."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Observation:
    """The result of one look at a fault's effect.

    Attributes:
        visible: whether the fault has an effect. *Unknown* means that there is too little evidence to say.
        because: the reason, in one line.
        figures: counts and measurements by name; names in milliseconds end with ``_ms``, shares with ``_share``.
    """

    visible: Visible
    because: str
    figures: Mapping[str, Any] = field(default_factory=dict)

    def to_document(self) -> dict[str, Any]:
        """Returns it as a JSON object."""
        return {**asdict(self), "visible": str(self.visible), "figures": dict(self.figures)}


def seen(*, holds: bool, because: str, **figures: object) -> Observation:
    """Returns *yes* if the evidence holds, else *no*."""
    return Observation(Visible.YES if holds else Visible.NO, because, figures)


def unknown(because: str, **figures: object) -> Observation:
    """Returns *unknown*, with the reason."""
    return Observation(Visible.UNKNOWN, because, figures)
