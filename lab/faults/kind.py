"""What a kind of fault is, and how its target becomes units."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from lab.errors import InputError
from lab.faults.settings import SEVERE, Setting, Value, number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from lab.faults.fault_context import Scene
    from lab.faults.observation import Observation
    from lab.faults.state import FaultRecord
    from lab.plan.units import Unit
    from lab.runtime.state import LabState

BOTH = ("process", "compose")


class Kind(ABC):
    """A kind of fault. To add one: a subclass, and its entry in :data:`lab.faults.registry.KINDS`.

    Attributes:
        name: as it is asked for.
        what: what it does, in one line.
        targets: what it can be aimed at, in words.
        runtimes: where it can be had.
        elsewhere: why not on others, and what to do there.
        settings: what can be set.
        levels: level → settings.
        default_level: where none is asked for.
        default_target: likewise; empty if one has to be named.
        group: two faults of one group cannot hit the same unit at once; of other groups they can.
    """

    name: ClassVar[str]
    what: ClassVar[str]
    targets: ClassVar[str]
    runtimes: ClassVar[tuple[str, ...]] = BOTH
    elsewhere: ClassVar[str] = ""
    settings: ClassVar[tuple[Setting, ...]] = ()
    levels: ClassVar[Mapping[str, Mapping[str, Value]]]
    default_level: ClassVar[str] = "medium"
    default_target: ClassVar[str] = ""
    group: ClassVar[str]

    def lasts_s(self, settings: Mapping[str, Any]) -> float:
        """After how many seconds it ends where nobody says so; 0 for never."""
        del settings
        return 0.0

    @abstractmethod
    def choose(self, scene: Scene, target: str, settings: Mapping[str, Any], random: Random) -> tuple[str, ...]:
        """The units that are hit.

        Raises:
            InputError: it cannot be aimed at that.
        """

    def prepare(self, scene: Scene, fault: FaultRecord) -> Mapping[str, Any]:
        """Looks at how things are before, and returns what must be remembered; changes nothing."""
        del scene, fault
        return {}

    @abstractmethod
    def inject(self, scene: Scene, fault: FaultRecord) -> Mapping[str, Any]:
        """Does it, and returns what more must be remembered. What it leaves half done, :meth:`heal` undoes."""

    @abstractmethod
    def observe(self, scene: Scene, fault: FaultRecord) -> Observation:
        """Looks for its effect."""

    @abstractmethod
    def heal(self, scene: Scene, fault: FaultRecord) -> None:
        """Undoes it, and returns once what it hit is as before; harmless where there is nothing to undo."""

    def mind(self, scene: Scene, fault: FaultRecord) -> None:
        """Runs beside the lab until the fault is to end, for a fault that has an end of its own."""
        scene.wait_until(fault.until_ns)

    def describe(self, fault: FaultRecord) -> str:
        """Its numbers in a few words, for marks and lists."""
        return ", ".join(
            f"{name} {_shown(value)}"
            for name, value in fault.settings.items()
            if value not in ("", 0) and name != "share"
        )


def units_of(state: LabState, target: str) -> list[Unit]:
    """The units that a target names: one unit, a cluster's replicas, or all of a role.

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
            f"{target!r} is no unit, cluster or role of this lab; there are the units {names}; "
            f"the clusters {', '.join(clusters)}; the roles {', '.join(roles)}"
        )
    return exact or found


def replicas_of(state: LabState, target: str) -> list[Unit]:
    """The model replicas that a target names.

    Raises:
        InputError: it names none.
    """
    found = units_of(state, target)
    if strange := [unit for unit in found if not unit.cluster]:
        raise InputError(f"{target}: is a {strange[0].role}; name a model cluster, e.g. ml-cluster-1, or a replica")
    return found


def some_of(units: Sequence[Unit], settings: Mapping[str, Any], random: Random) -> tuple[str, ...]:
    """The share of the units that is hit, one at least, in their order."""
    return some([unit.name for unit in units], number(settings, "share"), random)


def some(names: Sequence[str], share: float, random: Random) -> tuple[str, ...]:
    """A share of these, one at least, in their order."""
    chosen = set(random.sample(names, max(1, math.ceil(share * len(names)))))
    return tuple(name for name in names if name in chosen)


def by_share(severe: float = 1.0) -> dict[str, dict[str, Value]]:
    """Levels that differ in how many units are hit: one, half of them, or all."""
    return {"light": {"share": 0.0}, "medium": {"share": 0.5}, SEVERE: {"share": severe}}


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
