"""A number and where it is from: measured, computed or assumed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Origin(StrEnum):
    """How a number came to be."""

    MEASURED = "measured"
    COMPUTED = "computed"
    ASSUMED = "assumed"


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number.

    Attributes:
        value: in its unit.
        unit: e.g. ``cores``; empty for a bare ratio.
        origin: how it came to be.
        source: from what, in words: a bench and its day, a formula, a publication.
    """

    value: float
    unit: str
    origin: Origin
    source: str

    def to_document(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)
