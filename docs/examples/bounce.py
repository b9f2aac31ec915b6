"""A kind of fault of one's own: units are ended and started again at once, as a supervisor does with what crashes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.faults.kind import Kind, by_share, some_of, units_of
from lab.faults.observation import seen
from lab.faults.process_faults import await_life
from lab.faults.settings import SHARE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from lab.faults.fault_context import Scene
    from lab.faults.observation import Observation
    from lab.faults.state import FaultRecord


class Bounce(Kind):
    """Ends units and starts them again."""

    name = "bounce"
    what = "ends units and starts them again at once"
    targets = "a unit; a model cluster or a role, of which the share is hit"
    runtimes = ("process",)
    elsewhere = "where a container keeps its id; kill it there, and heal that"
    settings = (SHARE,)
    levels = by_share()
    group = "life"

    def choose(self, scene: Scene, target: str, settings: Mapping[str, Any], random: Random) -> tuple[str, ...]:
        """As many units as the share says; the seed decides which."""
        return some_of(units_of(scene.state, target), settings, random)

    def prepare(self, scene: Scene, fault: FaultRecord) -> Mapping[str, Any]:
        """Who is there before."""
        return {"before": _processes(scene, fault.units)}

    def inject(self, scene: Scene, fault: FaultRecord) -> Mapping[str, Any]:
        """One after the other."""
        for name in fault.units:
            scene.hands.kill(name)
            scene.hands.start(name)
        return {}

    def observe(self, scene: Scene, fault: FaultRecord) -> Observation:
        """Other processes are there than before."""
        before, now = fault.memory["before"], _processes(scene, fault.units)
        others = [name for name in fault.units if before[name] != now[name]]
        because = f"{len(others)} of {len(fault.units)} units are other processes than before"
        return seen(holds=len(others) == len(fault.units), because=because, others=others)

    def heal(self, scene: Scene, fault: FaultRecord) -> None:
        """There is nothing to undo but to wait until all answer."""
        await_life(scene, list(fault.units))


def _processes(scene: Scene, names: tuple[str, ...]) -> dict[str, int]:
    running = scene.state.running
    return {name: running[name].pid for name in names}
