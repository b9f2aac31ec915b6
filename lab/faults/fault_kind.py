"""What a kind of fault provides, and how its target becomes units."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

from lab.errors import InputError
from lab.faults.settings import SHARE, Setting, Value, by_level, number

if TYPE_CHECKING:
    from lab.faults.fault_context import FaultContext
    from lab.faults.observation import Observation
    from lab.faults.state import FaultRecord
    from lab.roles import Unit
    from lab.runtime.state import LabState


class FaultKind(ABC):
    """A kind of fault. A file that defines a value of a subclass adds one, see :mod:`lab.faults.kinds`.

    Attributes:
        name: by which it is injected.
        summary: what it does, in one line.
        past: what has happened to its target, for the time line: ``slowed down``. Empty if the fault consists of unit
            operations (:class:`lab.faults.UnitOperations`), each of which is its own event.
        targets: what it can be aimed at, in words.
        runtimes: the runtimes that support it; all if empty.
        elsewhere: why others do not, and the alternative there.
        settings: its options, with their bounds; by default the share of the target's units that are hit.
        levels: level → values of settings; by default one unit, half of them, or all.
        default_level: if the user names none.
        default_target: likewise; empty if the user has to name one.
        recovers_s: time after it was healed in which its units are as before: they get requests, and follow revisions,
            as their peers do. Checkers then judge them again.
        group: two faults of one group cannot hit the same unit at once; faults of different groups can.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    past: ClassVar[str] = ""
    targets: ClassVar[str]
    runtimes: ClassVar[tuple[str, ...]] = ()
    elsewhere: ClassVar[str] = ""
    settings: ClassVar[tuple[Setting, ...]] = (SHARE,)
    levels: ClassVar[Mapping[str, Mapping[str, Value]]] = by_level(share=(0.0, 0.5, 1.0))
    default_level: ClassVar[str] = "medium"
    default_target: ClassVar[str] = ""
    recovers_s: ClassVar[float] = 5.0
    group: ClassVar[str]

    def lasts_s(self, settings: Mapping[str, Any]) -> float:
        """Seconds after which it heals by itself if the user sets no time; 0 for never."""
        del settings
        return 0.0

    def adds_ms(self, settings: Mapping[str, Any]) -> float:
        """Time that each of its replicas takes longer for at least half of its requests, ms, which checkers ask for."""
        del settings
        return 0.0

    def fails_share(self, settings: Mapping[str, Any]) -> float:
        """Share of the requests at each of its replicas that fail with ``INTERNAL``, which checkers ask for."""
        del settings
        return 0.0

    def candidates(self, context: FaultContext, target: str, settings: Mapping[str, Any]) -> list[str]:
        """Returns the names of the units that it may hit; by default those that the target names.

        Raises:
            InputError: the target or the settings do not fit the kind.
        """
        del settings
        return [unit.name for unit in units_of(context.state(), target)]

    def choose(
        self, context: FaultContext, target: str, settings: Mapping[str, Any], random: Random
    ) -> tuple[str, ...]:
        """Returns the names of the units to hit, the setting ``share`` of the candidates; the same for the same seed.

        Raises:
            InputError: as :meth:`candidates`.
        """
        names = self.candidates(context, target, settings)
        return some(names, number(settings, SHARE.name), random) if SHARE in self.settings else tuple(names)

    def prepare(self, context: FaultContext, fault: FaultRecord) -> Mapping[str, Any]:
        """Returns the state that observing and healing need to know; changes nothing."""
        del context, fault
        return {}

    @abstractmethod
    def inject(self, context: FaultContext, fault: FaultRecord) -> Mapping[str, Any]:
        """Injects the fault and returns more to remember. If it fails half-way, :meth:`heal` undoes the rest."""

    @abstractmethod
    def observe(self, context: FaultContext, fault: FaultRecord) -> Observation:
        """Looks for the fault's effect."""

    @abstractmethod
    def heal(self, context: FaultContext, fault: FaultRecord) -> None:
        """Undoes the fault and returns once its units are as before. Does nothing if there is nothing to undo."""

    def run(self, context: FaultContext, fault: FaultRecord) -> None:
        """Runs in the fault timer's process from injection to the fault's end, if the fault has a time limit."""
        context.wait_until(fault.until_ns)

    def describe(self, fault: FaultRecord) -> str:
        """Returns its settings in a few words, for time lines and lists."""
        return ", ".join(
            f"{name} {_shown(value)}"
            for name, value in fault.settings.items()
            if value not in ("", 0) and name != "share"
        )


def units_of(state: LabState, target: str) -> list[Unit]:
    """Returns the units that a target names: one unit, a cluster's replicas, or all units of a role.

    Raises:
        InputError: it names none.
    """
    units = state.plan.units
    found = [unit for unit in units if target in (unit.name, unit.cluster, unit.role)] if target else []
    # A caller has its own name, and the role of all callers.
    exact = [unit for unit in found if unit.name == target]
    if not found:
        clusters = dict.fromkeys(unit.cluster for unit in units if unit.cluster)
        roles = dict.fromkeys(unit.role for unit in units)
        names = ", ".join(unit.name for unit in units)
        raise InputError(
            f"{target!r} is not a unit, cluster or role of this lab; there are the units {names}; "
            f"the clusters {', '.join(clusters)}; the roles {', '.join(roles)}"
        )
    return exact or found


def replicas_of(state: LabState, target: str) -> list[str]:
    """Returns the names of the model replicas that a target names.

    Raises:
        InputError: it names none.
    """
    found = units_of(state, target)
    if strange := [unit for unit in found if not unit.cluster]:
        raise InputError(f"{target}: is a {strange[0].role}; name a model cluster, e.g. ml-cluster-1, or a replica")
    return [unit.name for unit in found]


def some(names: Sequence[str], share: float, random: Random) -> tuple[str, ...]:
    """Returns a share of these names, at least one, in their order."""
    chosen = set(random.sample(names, max(1, math.ceil(share * len(names)))))
    return tuple(name for name in names if name in chosen)


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
