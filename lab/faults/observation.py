"""What can be seen of a fault: evidence of units, control plane and probes, never that it was injected."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class Visible(StrEnum):
    """Whether a fault can be seen."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen of a fault when somebody looked.

    Attributes:
        visible: whether the fault has an effect. *No* means that it should have one and has none; *unknown*, that
            too little was seen to say.
        because: the same in one line.
        figures: what was counted and measured, by name; milliseconds end with ``_ms``, shares with ``_share``.
    """

    visible: Visible
    because: str
    figures: Mapping[str, Any] = field(default_factory=dict)

    def to_document(self) -> dict[str, Any]:
        """As a JSON object."""
        return {**asdict(self), "visible": str(self.visible), "figures": dict(self.figures)}


def seen(*, holds: bool, because: str, **figures: object) -> Observation:
    """*Yes* if it holds, else *no*."""
    return Observation(Visible.YES if holds else Visible.NO, because, figures)


def unknown(because: str, **figures: object) -> Observation:
    """Nobody can say."""
    return Observation(Visible.UNKNOWN, because, figures)
