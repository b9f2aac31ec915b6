"""Clusters that a node has not used for long, and how they leave it without a request that fails.

An Envoy reports every few seconds which of its clusters had requests since the report before, or have one under way. A
cluster that had none for long is *let go* in two steps. First the node is told another name for its key
(:mod:`services.controlplane.xds.names`), so that every request from then on asks for a cluster of that name. Only when
the node has acknowledged that, and two more reports say that the old cluster has nothing under way, is it told that
this one is no more.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_QUIET_REPORTS = 2
"""A request may have been on its way through the node's filters when it acknowledged."""


@dataclass(slots=True)
class Idle:
    """What one node uses, and what is about to leave it.

    Attributes:
        after_s: how long a cluster is unused before it leaves, seconds; 0 for never.
        now_s: the clock, seconds.
    """

    after_s: float
    now_s: Callable[[], float] = time.monotonic
    _used_s: dict[str, float] = field(default_factory=dict)
    _leaving: dict[str, int] = field(default_factory=dict)  # reports in which there was nothing, since it has the name

    def reported(self, used: Mapping[str, bool], held: Iterable[str], *, named: bool) -> tuple[list[str], list[str]]:
        """Takes in a report.

        Args:
            used: cluster → whether it had a request since the report before, or has one under way.
            held: names of the clusters that the node has.
            named: whether it has acknowledged all names that it was told.

        Returns:
            Those that are to be let go, and those that are to be taken away now.
        """
        now_s = self.now_s()
        idle, gone = [], []
        for name in held:
            if name not in used:
                continue  # it came since
            since_s = self._used_s.setdefault(name, now_s)
            if used[name]:
                self._used_s[name] = now_s
                self._leaving.update({name: 0} if name in self._leaving else {})
            elif name not in self._leaving:
                if self.after_s and now_s - since_s >= self.after_s:
                    idle.append(name)
            elif named:
                self._leaving[name] += 1
                if self._leaving[name] >= _QUIET_REPORTS:
                    gone.append(name)
        return idle, gone

    def lets_go(self, name: str) -> None:
        """The node is about to be told another name for this one's key."""
        self._leaving.setdefault(name, 0)

    def has_left(self, name: str) -> None:
        """The node does not have it any longer."""
        self._used_s.pop(name, None)
        self._leaving.pop(name, None)
