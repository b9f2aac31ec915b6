"""The model versions that a cluster must hold, as values."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Version:
    """A model version that a replica must hold."""

    routing_key: str
    model: str
    version: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """The model versions that every replica of a cluster must hold."""

    versions: tuple[Version, ...]
    keys: frozenset[str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", frozenset(each.routing_key for each in self.versions))


NOTHING = Assignment(())
