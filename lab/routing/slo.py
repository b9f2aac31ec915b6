"""Objectives of a use case whose answers come token by token, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from lab.routing.durations import seconds

FIELDS = ("first_token", "next_token")


class Slo(NamedTuple):
    """What pickers of replicas that predict go by.

    Attributes:
        first_ms: time to the first token; 0 for none.
        next_ms: time to each further token; 0 for none.
    """

    first_ms: float = 0.0
    next_ms: float = 0.0

    @classmethod
    def of(cls, slo: Mapping[str, str]) -> Slo:
        """Compiles a ``slo`` of the route table."""
        return cls(*(1_000 * seconds(slo[name]) if name in slo else 0.0 for name in FIELDS))


NO_SLO = Slo()
