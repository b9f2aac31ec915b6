"""How evenly requests are spread over replicas, before a replica is added and after. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.errors import UnitError

if TYPE_CHECKING:
    from collections.abc import Sequence

BEFORE_S, AFTER_S, SETTLED_S = 0.8, 2.4, 1.2
"""Requests count for so long before a replica is added, until so long after, and from when its share has settled."""

_NOTHING = "no request was answered while replicas were counted, so nothing was measured: is this machine too busy?"


@dataclass(frozen=True, slots=True)
class Answered:
    """One request.

    Attributes:
        at_s: when it was sent, seconds since the replica was added; negative before.
        replica: that answered; empty if the request failed.
    """

    at_s: float
    replica: str


@dataclass(frozen=True, slots=True)
class Round:
    """The answers by one path in one round.

    Attributes:
        answers: in the order of sending.
        began_s: start of the time that counts before the replica was added; negative.
        old: the replicas that were there before.
        new: the one that was added.

    Raises:
        UnitError: by a property that counts answers, if there were none.
    """

    answers: Sequence[Answered]
    began_s: float
    old: Sequence[str]
    new: str

    @property
    def spread_before(self) -> float:
        """Requests of the busiest replica over the mean of all, before another was added: 1 is even."""
        return _spread([each for each in self.answers if self.began_s <= each.at_s < self.began_s + BEFORE_S], self.old)

    @property
    def spread_after(self) -> float:
        """The same with the new replica, once its share has settled."""
        return _spread(self._settled, [*self.old, self.new])

    @property
    def share(self) -> float:
        """Requests of the new replica over an even share: 1 is even, 0 none."""
        answered = [each.replica for each in self._settled if each.replica]
        if not answered:
            raise UnitError(_NOTHING)
        return (len(self.old) + 1) * answered.count(self.new) / len(answered)

    @property
    def first_s(self) -> float:
        """When the first request was sent that the new replica answered; infinite if there was none."""
        return min((each.at_s for each in self.answers if each.replica == self.new), default=math.inf)

    @property
    def failed(self) -> float:
        """Share of all requests that failed."""
        return sum(not each.replica for each in self.answers) / len(self.answers)

    @property
    def _settled(self) -> list[Answered]:
        return [each for each in self.answers if SETTLED_S <= each.at_s < AFTER_S]


def share_between(rounds: Sequence[Round], start_s: float, end_s: float) -> float:
    """Returns the new replica's share of the answers to requests sent between two times, over all rounds together.

    Times count as in :class:`Answered`. The share is 0 if nothing was answered.
    """
    by_new = [
        each.replica == measured.new
        for measured in rounds
        for each in measured.answers
        if each.replica and start_s <= each.at_s < end_s
    ]
    return sum(by_new) / max(len(by_new), 1)


def _spread(answers: Sequence[Answered], replicas: Sequence[str]) -> float:
    counts = [sum(each.replica == replica for each in answers) for replica in replicas]
    if not any(counts):
        raise UnitError(_NOTHING)
    return max(counts) * len(counts) / sum(counts)
