"""A picker from outside: three of four requests go to one replica, as if its machine were that much larger."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

from lab.pickers import ENVOY, GATEWAY, Cannot, Pick, Picker


def mostly_one() -> Pick:
    """Picks for one routing key: the first replica three times, then one of the others."""
    turns = count()

    def pick(replicas: Sequence[Any]) -> Any:
        turn, others = next(turns), len(replicas) - 1
        return replicas[0] if turn % 4 or not others else replicas[1 + turn // 4 % others]

    return pick


def shares(replicas: int) -> list[float]:
    """What each replica is to get."""
    return [1.0] if replicas == 1 else [0.75, *[0.25 / (replicas - 1)] * (replicas - 1)]


PICKER = Picker(
    name="mostly-one",
    line="three of four requests to one replica",
    places={GATEWAY: mostly_one, ENVOY: Cannot("an Envoy weighs replicas by their endpoints, not by their cluster")},
    shares=shares,
)
