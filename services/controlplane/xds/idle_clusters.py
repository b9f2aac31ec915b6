"""Finds clusters that an Envoy has not used for long, and removes them without a failed request.

An Envoy reports every few seconds which of its clusters had a request since the last report, or have one in flight. A
cluster that had none for long leaves in two steps. First the node receives another name for its key
(:mod:`services.controlplane.xds.names`), so that later requests subscribe to a cluster of that name. The old cluster is
removed once the node has acknowledged the name and two more reports show nothing in flight.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

_QUIET_REPORTS = 2
"""A request may have been inside the node's filters when the node acknowledged."""


@dataclass(slots=True)
class IdleClusters:
    """One node's use of its clusters, and the clusters that are about to leave it.

    Attributes:
        after_s: how long a cluster is unused before it leaves, seconds; 0 for never.
        now_s: the clock, seconds.
    """

    after_s: float
    now_s: Callable[[], float] = time.monotonic
    _used_s: dict[str, float] = field(default_factory=dict)
    _leaving: dict[str, int] = field(default_factory=dict)  # cluster → reports without use since the new name

    def reported(self, used: Mapping[str, bool], held: Iterable[str], *, named: bool) -> tuple[list[str], list[str]]:
        """Takes in a report.

        Args:
            used: cluster → whether it had a request since the last report, or has one in flight.
            held: names of the node's clusters.
            named: whether the node has acknowledged every name it was sent.

        Returns:
            Clusters that need another name now, and clusters to remove now.
        """
        now_s = self.now_s()
        idle, gone = [], []
        for name in held:
            if name not in used:
                continue  # newer than the report
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

    def mark_leaving(self, name: str) -> None:
        """Marks a cluster as leaving: its key gets another name."""
        self._leaving.setdefault(name, 0)

    def forget(self, name: str) -> None:
        """Forgets a cluster that has left the node."""
        self._used_s.pop(name, None)
        self._leaving.pop(name, None)
