"""What nobody here can measure, in one table: each with its default, and where that comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.capacity.quantity import Origin, Quantity
from lab.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Assumption:
    """One of them.

    Attributes:
        default: in ``unit``.
        meaning: what it is.
        source: why the default is what it is.
        least: no value below will do.
        most: nor one above.
    """

    default: float
    unit: str
    meaning: str
    source: str
    least: float = 0.0
    most: float = 1e9


ASSUMPTIONS: Mapping[str, Assumption] = {
    "utilisation": Assumption(
        0.6,
        "of a core or slot",
        "how busy processes and models are meant to be",
        "with one zone of three gone the others have 0.6 × 3/2 = 0.9",
        least=0.01,
        most=0.99,
    ),
    "core-hour": Assumption(
        0.0425,
        "USD",
        "price of a core for an hour",
        "Amazon EC2 on demand, c6i.large in us-east-1: 0.085 USD an hour for two",
    ),
    "gigabyte": Assumption(
        0.02,
        "USD",
        "price of a gigabyte from one zone to another",
        "Amazon EC2 data transfer within a region: 0.01 USD for each of the two ends",
    ),
    "cross-zone": Assumption(
        2 / 3, "of all hops", "how many hops between machines leave their zone", "three zones, none preferred", most=1.0
    ),
    "hop-ms": Assumption(
        0.5,
        "ms",
        "there and back between two machines",
        "J. Dean, Numbers Everyone Should Know, 2009: within one data centre",
    ),
    "answer-bytes": Assumption(
        271, "B", "size of an answer on the wire", "what the stub models answer: bench encodings, docs/figures.md"
    ),
    "noticed-s": Assumption(
        2.0,
        "s",
        "how long the dead are still sent requests",
        "docs/resilience.md: asked every second, out after two failures",
    ),
}
"""Name, as an option has it → assumption."""


class Assumptions:
    """A value for each of :data:`ASSUMPTIONS`.

    Args:
        given: name → value, of those that are not to have their default.

    Raises:
        InputError: no such name, or a value out of range.
    """

    def __init__(self, given: Mapping[str, float] | None = None) -> None:
        self._given = dict(given or {})
        for name, value in self._given.items():
            known = ASSUMPTIONS.get(name)
            if known is None:
                raise InputError(f"assumption {name!r} is not known; there are {', '.join(ASSUMPTIONS)}")
            if not known.least <= value <= known.most:
                raise InputError(
                    f"--{name}: {value:g} is out of range; write a number from {known.least:g} to {known.most:g}, "
                    f"e.g. {known.default:g}"
                )

    def __getitem__(self, name: str) -> float:
        """The value."""
        return self._given.get(name, ASSUMPTIONS[name].default)

    def to_document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {name: self.quantity(name).to_document() for name in ASSUMPTIONS}

    def quantity(self, name: str) -> Quantity:
        """The value with its source."""
        known = ASSUMPTIONS[name]
        source = f"--{name}" if name in self._given else known.source
        return Quantity(self[name], known.unit, Origin.ASSUMED, source)
