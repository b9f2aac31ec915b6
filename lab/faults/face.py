"""The side of :class:`lab.lab.Lab` that breaks things on purpose: hands on its units, and faults."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lab.faults.injector import ALL, Injector
from lab.faults.unit_operations import UnitOperations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.faults.injector import Fault


class Faulting(ABC):
    """What can be done to a lab's units."""

    # -- units ---------------------------------------------------------------------------------------------------

    def kill(self, unit: str) -> None:
        """Ends one unit at once; see :class:`lab.faults.UnitOperations` for this and the next seven."""
        self._hands.kill(unit)

    def start(self, unit: str) -> None:
        """Starts one unit that does not run, at the addresses that it had."""
        self._hands.start(unit)

    def pause(self, unit: str) -> None:
        """Freezes one unit."""
        self._hands.pause(unit)

    def resume(self, unit: str) -> None:
        """Lets a frozen unit go on."""
        self._hands.resume(unit)

    def partition(self, unit: str) -> None:
        """Cuts one unit off, with the pod that it stands in."""
        self._hands.partition(unit)

    def rejoin(self, unit: str) -> None:
        """Connects one unit again that was cut off."""
        self._hands.rejoin(unit)

    def scale(self, cluster: str, replicas: int) -> list[str]:
        """Gives a model cluster more replicas, or fewer; returns all their names."""
        return self._hands.scale(cluster, replicas)

    def replace(self, unit: str, cluster: str) -> str:
        """Kills a model replica and starts one of another cluster at its very address; returns its name."""
        return self._hands.replace(unit, cluster)

    # -- faults --------------------------------------------------------------------------------------------------

    def inject(
        self,
        kind: str,
        target: str = "",
        *,
        level: str | None = None,
        seed: int = 1,
        for_s: float | None = None,
        **settings: Any,
    ) -> Fault:
        """Injects a fault, which stays until it is healed; see :mod:`lab.faults.kinds` for the kinds.

        ``lab.inject("slow", "ml-cluster-1", ms=50, share=0, seed=7).observe()``

        Args:
            kind: e.g. ``slow``.
            target: a unit, a cluster, or what else the kind can be aimed at.
            level: ``light``, ``medium`` or ``severe``.
            seed: of its choices: the same seed hits the same units, and fails the same requests.
            for_s: healed by itself after so many seconds, also if this process is gone by then.
            settings: the kind's numbers, instead of the level's.

        Raises:
            InputError: it cannot be had so, or hits what is hit already; nothing was changed.
            LabError: it could not be injected; what was done of it is undone.
        """
        return self._faults.inject(kind, target, level=level, seed=seed, for_s=for_s, **settings)

    def heal(self, fault: Fault | str = ALL) -> list[str]:
        """Undoes a fault, by handle or id, or all of them; harmless the second time. Returns ids of what it undid.

        Raises:
            InputError: it is no id.
            LabError: one could not be healed; it stays on the list.
        """
        return self._faults.heal(fault)

    def faults(self) -> list[Fault]:
        """The faults that are injected right now, oldest first."""
        return self._faults.active()

    @contextmanager
    def injected(
        self,
        kind: str,
        target: str = "",
        *,
        level: str | None = None,
        seed: int = 1,
        **settings: Any,
    ) -> Iterator[Fault]:
        """A fault for as long as the body runs; see :meth:`inject`."""
        fault = self.inject(kind, target, level=level, seed=seed, **settings)
        try:
            yield fault
        finally:
            self.heal(fault)

    # -- within --------------------------------------------------------------------------------------------------

    @property
    def _hands(self) -> UnitOperations:
        return UnitOperations(self._own_folder())

    @property
    def _faults(self) -> Injector:
        return Injector(self._own_folder())

    @abstractmethod
    def _own_folder(self) -> Path:
        """The lab's own folder."""
