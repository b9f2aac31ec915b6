"""Numbers that say where they are from, and those that the lab cannot measure, each with its default's source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from lab.errors import InputError


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


def computed(value: float, unit: str, source: str) -> Quantity:
    """A figure that a formula gives; ``source`` is the formula."""
    return Quantity(float(value), unit, Origin.COMPUTED, source)


@dataclass(frozen=True, slots=True)
class Assumption:
    """One assumption.

    Attributes:
        default: default value, in ``unit``.
        meaning: what the value means.
        source: where the default comes from.
        least: smallest allowed value.
        most: greatest allowed value.
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
        "target utilisation of processes and models",
        "with one zone of three down the others run at 0.6 × 3/2 = 0.9",
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
        2 / 3, "of all hops", "share of hops between machines that cross zones", "three zones, none preferred", most=1.0
    ),
    "hop-ms": Assumption(
        0.5,
        "ms",
        "round trip between two machines",
        "J. Dean, Numbers Everyone Should Know, 2009: within one data centre",
    ),
    "answer-bytes": Assumption(
        271, "B", "size of an answer on the wire", "answers of the stub models: bench encodings, docs/figures.md"
    ),
    "noticed-s": Assumption(
        2.0,
        "s",
        "how long a dead part still gets requests",
        "page Resilience: probed every second, left out after two failures",
    ),
    "node-cores": Assumption(
        16, "cores", "cores of a cluster's node", "Amazon EC2 m6i.4xlarge: 16 cores, 64 GiB", least=1
    ),
    "node-gigabytes": Assumption(
        64, "GiB", "memory of a cluster's node", "Amazon EC2 m6i.4xlarge: 16 cores, 64 GiB", least=1
    ),
    "node-reserved": Assumption(
        0.1,
        "of a node",
        "share of a node that pods cannot have",
        "a guess: kubelet, system and what runs on every node",
        most=0.9,
    ),
}
"""Option name → assumption."""


class Assumptions:
    """A value for each of :data:`ASSUMPTIONS`.

    Args:
        given: name → value, for those that differ from their default.
        measured: name → what was measured instead of it, where it is not given.

    Raises:
        InputError: no such name, or a value out of range.
    """

    def __init__(
        self, given: Mapping[str, float] | None = None, measured: Mapping[str, Quantity] | None = None
    ) -> None:
        self._given, self._measured = dict(given or {}), measured or {}
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
        return self.quantity(name).value

    def to_document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {name: self.quantity(name).to_document() for name in ASSUMPTIONS}

    def quantity(self, name: str) -> Quantity:
        """The value with its source."""
        known = ASSUMPTIONS[name]
        if name in self._given:
            return Quantity(self._given[name], known.unit, Origin.ASSUMED, f"--{name}")
        return self._measured.get(name) or Quantity(known.default, known.unit, Origin.ASSUMED, known.source)
