"""What replicas are told, as values: the model versions of their cluster, and whose requests to refuse."""

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


@dataclass(frozen=True, slots=True)
class Suspension:
    """Who decides by rules that may have ended.

    Attributes:
        number: grows with each change.
        callers: their resolvers do not follow; they may use gateways.
        gateways: do not follow.
    """

    number: int = 0
    callers: frozenset[str] = frozenset()
    gateways: frozenset[str] = frozenset()


NOTHING = Assignment(())
