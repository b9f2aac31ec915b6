"""Faults of a unit's life: killed, paused, cut off; and all of it for the control plane."""

from __future__ import annotations

from abc import abstractmethod
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from lab.errors import InputError
from lab.faults.fault_context import Life
from lab.faults.kind import Kind, by_share, some_of, units_of
from lab.faults.observation import seen, unknown
from lab.faults.settings import SEVERE, SHARE, Number, Word, number
from lab.plan.control_planes import CONTROL_PLANE
from lab.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from lab.faults.fault_context import Scene
    from lab.faults.observation import Observation
    from lab.faults.state import FaultRecord

BACK_WITHIN = timedelta(seconds=45)
_IN_WORDS = {Life.ANSWERS: "answer", Life.REFUSES: "refuse", Life.SILENT: "say nothing"}


class _OfLife(Kind):
    """What becomes of whole units. A kind says how, and by which lives and states it is known."""

    targets = "a unit; a model cluster or a role, of which the share is hit"
    settings = (SHARE,)
    levels = by_share()
    default_level = SEVERE
    group = "life"
    shown_by: ClassVar[tuple[Life, ...]]
    state: ClassVar[str]

    def choose(self, scene: Scene, target: str, settings: Mapping[str, Any], random: Random) -> tuple[str, ...]:
        """Units that run; there must be as many as are to be hit."""
        units, states = units_of(scene.state, target), scene.states()
        if idle := [unit.name for unit in units if states.get(unit.name) != "running"]:
            how = states.get(idle[0], "absent")
            raise InputError(f"{self.name} {target}: {idle[0]} is {how}; heal or start it first")
        return some_of(units, settings, random)

    def inject(self, scene: Scene, fault: FaultRecord) -> Mapping[str, Any]:
        """One unit after the other."""
        for name in fault.units:
            self.hit(scene, name)
        return {}

    @abstractmethod
    def hit(self, scene: Scene, name: str) -> None:
        """Does it to one unit."""

    @abstractmethod
    def restore(self, scene: Scene, name: str) -> None:
        """Undoes it on one unit that is there; harmless if it is as before."""

    def observe(self, scene: Scene, fault: FaultRecord) -> Observation:
        """Units are in the state, take questions as they should, and the control plane counts them out."""
        return observe_lives(scene, fault.units, self.state, self.shown_by)

    def heal(self, scene: Scene, fault: FaultRecord) -> None:
        """Until all answer, and the control plane, if it does, knows the replicas among them again."""
        there = [name for name in fault.units if scene.unit(name) is not None]
        for name in there:
            self.restore(scene, name)
        await_life(scene, there)


class Kill(_OfLife):
    """Ends units at once."""

    name = "kill"
    what = "ends units at once, without a chance to say goodbye"
    shown_by = (Life.REFUSES,)
    state = "exited"

    def hit(self, scene: Scene, name: str) -> None:
        """Ends it."""
        scene.hands.kill(name)

    def restore(self, scene: Scene, name: str) -> None:
        """Starts it."""
        scene.hands.start(name)


class Pause(_OfLife):
    """Freezes units."""

    name = "pause"
    what = "freezes units: they stay connected and say nothing (a gray failure)"
    shown_by = (Life.SILENT,)
    state = "paused"

    def hit(self, scene: Scene, name: str) -> None:
        """Freezes it."""
        scene.hands.pause(name)

    def restore(self, scene: Scene, name: str) -> None:
        """Lets it go on, or starts it if it has been killed meanwhile."""
        if scene.states().get(name, "exited") == "exited":
            scene.hands.start(name)
        else:
            scene.hands.resume(name)


class Partition(_OfLife):
    """Cuts pods off."""

    name = "partition"
    what = "cuts units off, each with the pod that it stands in: they run, and nothing gets in or out"
    runtimes = ("compose",)
    elsewhere = (
        "where all units share one loopback; pause it, which silences it likewise, "
        "or bring the lab up with --runtime compose"
    )
    # To somebody outside a container without a network looks like either, by what stands in between.
    shown_by = (Life.REFUSES, Life.SILENT)
    state = "running"

    def choose(self, scene: Scene, target: str, settings: Mapping[str, Any], random: Random) -> tuple[str, ...]:
        """One unit of each pod is enough to name it."""
        chosen = super().choose(scene, target, settings, random)
        plan = scene.state.plan
        return tuple({plan.unit(name).pod: name for name in reversed(chosen)}.values())[::-1]

    def hit(self, scene: Scene, name: str) -> None:
        """Disconnects its pod."""
        scene.hands.partition(name)

    def restore(self, scene: Scene, name: str) -> None:
        """Connects its pod, unless it is connected."""
        if scene.life([name])[name] is not Life.ANSWERS:
            scene.hands.rejoin(name)


class ControlPlaneLoss(Kind):
    """Takes the control plane away for a time."""

    name = "control-plane-loss"
    what = "takes the control plane away for a time: nobody hears of changes, what is known serves on"
    targets = "nothing: it is about the control plane, and of several about all"
    settings = (
        Word("how", "frozen, or ended; it keeps its revisions", ("pause", "kill"), "kill"),
        Number("seconds", "seconds after which it comes back by itself; 0: when it is healed", 0, 600),
    )
    levels: ClassVar[Mapping[str, Mapping[str, float | str]]] = {
        "light": {"how": "pause", "seconds": 2.0},
        "medium": {"how": "kill", "seconds": 5.0},
        SEVERE: {"how": "kill", "seconds": 20.0},
    }
    default_target = CONTROL_PLANE
    group = "life"

    def lasts_s(self, settings: Mapping[str, Any]) -> float:
        """As is set."""
        return number(settings, "seconds")

    def choose(self, scene: Scene, target: str, settings: Mapping[str, Any], random: Random) -> tuple[str, ...]:
        """The control plane; of several all that run, as what one of them knows all do."""
        del settings, random
        if target != CONTROL_PLANE:
            raise InputError(f"{self.name}: {target!r} will not do; leave the target out, or kill or pause {target}")
        running = tuple(unit.name for unit in scene.control_planes())
        if not running:
            how = scene.states().get(CONTROL_PLANE, "absent")
            raise InputError(f"{self.name}: the control plane is {how} already; heal or start it first")
        return running

    def inject(self, scene: Scene, fault: FaultRecord) -> Mapping[str, Any]:
        """Freezes or ends it."""
        return self._how(fault).inject(scene, fault)

    def observe(self, scene: Scene, fault: FaultRecord) -> Observation:
        """It does not answer."""
        how = self._how(fault)
        return observe_lives(scene, fault.units, how.state, how.shown_by)

    def heal(self, scene: Scene, fault: FaultRecord) -> None:
        """Until it answers again; nodes come back to it within a second."""
        self._how(fault).heal(scene, fault)

    @staticmethod
    def _how(fault: FaultRecord) -> _OfLife:
        return Pause() if fault.settings["how"] == "pause" else Kill()


def observe_lives(scene: Scene, names: tuple[str, ...], state: str, shown_by: tuple[Life, ...]) -> Observation:
    """Whether units are in a state, and take questions like this."""
    states, lives = scene.states(), scene.life(names)
    if not lives:
        return unknown("the lab has none of the units any more", units=list(names))
    hit = [name for name, life in lives.items() if life in shown_by and states.get(name, "exited") == state]
    control_plane = scene.control_plane(states)
    figures: dict[str, object] = {
        "units": len(names),
        "hit": len(hit),
        "states": {name: states.get(name, "absent") for name in names},
        "lives": {name: str(life) for name, life in lives.items()},
    }
    if control_plane is not None:
        known = {replica.replica for replica in control_plane.replicas} | {each.node for each in control_plane.nodes}
        figures["known_to_the_control_plane"] = sorted(known.intersection(names))
    words = " or ".join(_IN_WORDS[life] for life in shown_by)
    because = f"{len(hit)} of {len(names)} units are {state} and {words}"
    return seen(holds=len(hit) == len(names), because=because, **figures)


def await_life(scene: Scene, names: list[str]) -> None:
    """Returns once these answer, and the control plane, if it does, knows the replicas among them.

    Raises:
        DeadlineError: names who does not.
    """
    replicas = {name for name in names if (unit := scene.unit(name)) is not None and unit.cluster}

    def missing() -> list[str]:
        lives = scene.life(names)
        if silent := sorted(name for name, life in lives.items() if life is not Life.ANSWERS):
            return silent
        known = scene.control_plane() if replicas else None
        return sorted(replicas - {each.replica for each in known.replicas}) if known else []

    eventually("all answer again (still missing)", missing, within=BACK_WITHIN, until=lambda names: not names)
